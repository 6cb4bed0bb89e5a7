-- How many sessions are due, and the score of the one that is due longest. KEYS: when sessions are due, of one or more
-- buckets. ARGV: now.
local count, since = 0, false
for _, key in ipairs(KEYS) do
  count = count + redis.call('ZCOUNT', key, '-inf', ARGV[1])
  local first = redis.call('ZRANGEBYSCORE', key, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] and (not since or tonumber(first[2]) < tonumber(since)) then
    since = first[2]
  end
end
return {count, since}

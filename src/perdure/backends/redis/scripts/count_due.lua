-- How many sessions are due. KEYS: when sessions are due, of one or more buckets. ARGV: now.
local count = 0
for _, key in ipairs(KEYS) do
  count = count + redis.call('ZCOUNT', key, '-inf', ARGV[1])
end
return count

-- The right to fill the place of a copy. KEYS: where the ticket is kept. ARGV: a new ticket, how long one is good, how old
-- one may be to be shared (both in milliseconds). Answer: the ticket; readers that come at the same time share one.
local kept = redis.call('GET', KEYS[1])
if kept and ARGV[2] - redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[3]) then
  return kept
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]

-- The right to fill an empty slot. KEYS: tickets, when they were taken. ARGV: the id, a new ticket, the instant.
-- Answer: the ticket; readers that come at the same time share one.
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept then
  return kept
end
redis.call('ZCARD', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return ARGV[2]

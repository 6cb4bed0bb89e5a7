-- Drop what served its time in one bucket: tombstones, and tickets whose takers never came back. KEYS: tombstones,
-- tickets, when they were taken. ARGV: now, the instant from which on tickets are good. Answer: how many.
local forgotten = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
repeat
  local void = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[2], 'LIMIT', 0, 1000)
  if #void > 0 then
    redis.call('HDEL', KEYS[2], unpack(void))
    redis.call('ZREM', KEYS[3], unpack(void))
    forgotten = forgotten + #void
  end
until #void < 1000
return forgotten

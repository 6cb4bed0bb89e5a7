-- How the data is laid out. KEYS: where that is noted. ARGV: what to note where nothing is. Answer: fields and values.
local kept = redis.call('HGETALL', KEYS[1])
if #kept > 0 then
  return kept
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return redis.call('HGETALL', KEYS[1])

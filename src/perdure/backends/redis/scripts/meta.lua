-- Note how the data is laid out, where nothing is noted. KEYS: where. ARGV: fields and values.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV))
end
return 1

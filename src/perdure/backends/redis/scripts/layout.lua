-- How the data is laid out. KEYS: where that is noted. Answer: fields and values.
return redis.call('HGETALL', KEYS[1])

-- When the last sweep started, and who started it. KEYS: where that is noted.
return redis.call('GET', KEYS[1])

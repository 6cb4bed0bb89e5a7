-- Forget keys that are about no session in particular. KEYS: they. Answer: how many there were.
return redis.call('UNLINK', unpack(KEYS))

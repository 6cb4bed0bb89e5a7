-- The first ids in an index. KEYS: the index. ARGV: how many.
return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)

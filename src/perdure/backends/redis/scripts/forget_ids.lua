-- Take ids out of an index. KEYS: the index. ARGV: they.
return redis.call('ZREM', KEYS[1], unpack(ARGV))

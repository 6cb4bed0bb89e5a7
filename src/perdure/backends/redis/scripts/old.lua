-- What was archived before an instant, the longest archived first. KEYS: when sessions of one bucket were archived.
-- ARGV: the instant, how many. Answer: ids and scores.
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])

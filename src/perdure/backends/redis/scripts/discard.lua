-- uses: facts, labels, removing
-- Forget a session without a trace. KEYS: the session. ARGV: its id.
local key, id = KEYS[1], ARGV[1]
local row = redis.call('TYPE', key).ok == 'hash' and redis.call('HMGET', key, 'F', 'L') or {}
remove(string.sub(key, 1, -36), string.sub(key, -32), id, row[1], described(row[2] or ''))
return 1

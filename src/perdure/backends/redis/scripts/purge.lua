-- uses: facts, labels, removing
-- Forget a session if it still is archived since before an instant. KEYS: the session. ARGV: attempt, its id, the instant.
-- Answer: 1 where it is forgotten.
local key, id = KEYS[1], ARGV[2]
local base = string.sub(key, 1, -36)
local since = redis.call('ZSCORE', base .. ':old', id)
if not since then
  return ARGV[1] ~= '1' and redis.call('EXISTS', key) == 0 and 1 or 0
end
if tonumber(since) >= tonumber(ARGV[3]) then
  return 0
end
local row = redis.call('TYPE', key).ok == 'hash' and redis.call('HMGET', key, 'F', 'L') or {}
remove(base, string.sub(key, -32), id, row[1], described(row[2] or ''))
return 1

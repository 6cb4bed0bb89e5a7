-- uses: facts, copies, labels, removing, metrics
-- Forget a session if it still is archived since before an instant, but for what it counts. KEYS: the session. ARGV:
-- attempt, its id, the instant, when it was created, version and head that were measured, what it counts; the last four
-- '' where it cannot be read. Answer: 1 where it is forgotten.
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
local version, head = copy_in(row[1] or '')
if ARGV[7] ~= '' and (version ~= ARGV[5] or head ~= ARGV[6]) then
  return 0 -- it came back, and was archived again
end
probe_metrics(base)
remove(base, string.sub(key, -32), id, row[1], described(row[2] or ''))
if ARGV[7] ~= '' then
  put_metrics(base, id, ARGV[4], ARGV[7])
end
return 1

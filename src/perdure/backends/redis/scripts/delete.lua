-- uses: facts, labels, removing, metrics
-- Forget a session and leave a tombstone. KEYS: the session. ARGV: attempt, its id, owner ('=' and who, or ''), when the
-- tombstone may be forgotten. Answer: 1 where there was one of that owner.
local key, id = KEYS[1], ARGV[2]
local base, tombs = string.sub(key, 1, -36), string.sub(key, 1, -36) .. ':tombs'
local known = redis.call('ZSCORE', tombs, id)
local is_kept = redis.call('EXISTS', key) == 1
local row = redis.call('TYPE', key).ok == 'hash' and redis.call('HMGET', key, 'F', 'L') or {}
local about = described(row[2] or '')
if is_kept and ARGV[3] ~= '' and (not about or about.user ~= ARGV[3]) then
  return 0
end
probe_metrics(base)
remove(base, string.sub(key, -32), id, row[1], about)
local metrics = redis.call('HGET', base .. ':metrics', id)
if metrics and (is_kept or ARGV[3] == '' or string.match(metrics, '^[^%z]*') == ARGV[3]) then
  forget_metrics(base, id)
end
if not known or tonumber(known) < tonumber(ARGV[4]) then
  redis.call('ZADD', tombs, ARGV[4], id)
end
local by_an_attempt_before = ARGV[1] ~= '1' and known and tonumber(known) == tonumber(ARGV[4])
return (is_kept or by_an_attempt_before) and 1 or 0

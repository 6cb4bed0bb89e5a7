-- uses: facts, copies, labels, removing, metrics
-- Forget this very copy. KEYS: the session. ARGV: attempt, its id, version, head. Answer: 1 where it is forgotten.
local key, id = KEYS[1], ARGV[2]
local base = string.sub(key, 1, -36)
local row = redis.call('HMGET', key, 'F', 'L')
if not row[1] then
  void_ticket(base, id)
  local by_an_attempt_before = ARGV[1] ~= '1' and not redis.call('ZSCORE', base .. ':tombs', id)
  return by_an_attempt_before and redis.call('EXISTS', key) == 0 and 1 or 0
end
local version, head = copy_in(row[1])
if version ~= ARGV[3] or head ~= ARGV[4] then
  void_ticket(base, id)
  return 0
end
probe_metrics(base)
remove(base, string.sub(key, -32), id, row[1], described(row[2]))
forget_metrics(base, id)
return 1

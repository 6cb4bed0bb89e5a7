-- uses: metrics
-- Keep what a session counts that is not kept itself, unless a later version of it is recorded. KEYS: the session. ARGV:
-- attempt, its id, its version, when it was created, what it counts. Answer: 0 where a tombstone is, else 1.
local key, id = KEYS[1], ARGV[2]
local base = string.sub(key, 1, -36)
if redis.call('ZSCORE', base .. ':tombs', id) then
  return 0
end
if redis.call('EXISTS', key) == 1 then
  return 1
end
probe_metrics(base)
local known = redis.call('HGET', base .. ':metrics', id)
local version = known and string.match(known, '^[^%z]*%z(%d+)%z')
if not version or tonumber(version) < tonumber(ARGV[3]) then
  put_metrics(base, id, ARGV[4], ARGV[5])
end
return 1

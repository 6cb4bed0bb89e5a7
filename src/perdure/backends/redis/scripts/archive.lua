-- uses: facts, copies, times, labels
-- Move this very copy to the archived ones; its version and head stay, and it stays due. KEYS: the session. ARGV: its id,
-- version, head, when. Answer: 'archived' and since when; or 'changed', 'deleted', 'damaged'.
local key, id = KEYS[1], ARGV[1]
local base = string.sub(key, 1, -36)
local row = redis.call('HMGET', key, 'F', 'L')
if not row[1] then
  return {redis.call('ZSCORE', base .. ':tombs', id) and 'deleted' or 'changed'}
end
local version, head, since = copy_in(row[1])
local about = described(row[2])
if not version or not about then
  return {'damaged', 'its facts or labels cannot be read'}
end
if version ~= ARGV[2] or head ~= ARGV[3] then
  return {'changed'}
end
if since then
  return {'archived', since}
end
local labels = labels_of(about)
for _, label in ipairs(labels) do
  probe({index_of(base, false, label), index_of(base, true, label)})
end
probe({base .. ':old'})
redis.call('HSET', key, 'F', string.sub(row[1], 1, 123) .. ARGV[4] .. string.sub(row[1], 142))
for _, label in ipairs(labels) do
  redis.call('ZREM', index_of(base, false, label), id)
  redis.call('ZADD', index_of(base, true, label), score_of(about.created), id)
end
redis.call('ZADD', base .. ':old', score_of(ARGV[4]), id)
return {'archived', ARGV[4]}

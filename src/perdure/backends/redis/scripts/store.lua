-- uses: facts, copies, times, labels, removing, bulk, metrics
-- Keep a whole session, where nothing or the copy named is kept; else give the copy that is.
-- KEYS: the session, its queries. ARGV: attempt, its id, what for ('create', 'absorb', 'fill'), ticket, version and head of the copy
-- to replace (or ''), its own version and head, '1' where archived, facts, static text, memory of writers, how many
-- entries (fields and values together), the entries, the bodies.
-- Answer: 'stored', 'exists', 'deleted', 'refused', 'unchanged', or 'kept' with that copy, whole.
local key, id, purpose = KEYS[1], ARGV[2], ARGV[3]
local base, hex, list = string.sub(key, 1, -36), string.sub(key, -32), KEYS[2]
if redis.call('ZSCORE', base .. ':tombs', id) then
  return {'deleted'}
end
local row = redis.call('HMGET', key, 'F', 'L')
local is_kept = row[1] or redis.call('EXISTS', key) == 1
local version, head, since
if is_kept then
  version, head, since = copy_in(row[1] or '')
  if not version then
    return {purpose == 'create' and 'exists' or 'damaged', 'its facts cannot be read'}
  end
end
local is_same = is_kept and version == ARGV[7] and head == ARGV[8] and (since ~= nil) == (ARGV[9] == '1')
if is_same and ARGV[1] ~= '1' then
  return {'stored'} -- by an attempt before, whose answer was lost
end
if is_kept and purpose == 'create' then
  return {'exists', version}
end
if purpose == 'fill' and (is_kept or redis.call('HGET', base .. ':tickets', id) ~= ARGV[4]) then
  return {'refused'}
end
if is_kept then
  void_ticket(base, id)
end
if is_same then
  return {'unchanged'}
end
if is_kept and not (version == ARGV[5] and head == ARGV[6]) then
  return {'kept', redis.call('HGETALL', key), redis.call('LRANGE', list, 0, -1)}
end

local about = described(ARGV[11])
local is_archived = ARGV[9] == '1'
local places = {}
for _, label in ipairs(labels_of(about)) do
  places[#places + 1] = index_of(base, is_archived, label)
end
places[#places + 1] = base .. (is_archived and ':old' or ':due')
probe(places)
redis.call('ZCARD', base .. ':taken')
redis.call('HLEN', base .. ':tickets')
probe_metrics(base)
if is_kept then
  remove(base, hex, id, row[1], described(row[2]))
elseif redis.call('EXISTS', list) == 1 then
  redis.call('UNLINK', list) -- what an eviction by the server left of another life
end
redis.call('HSET', key, 'F', ARGV[10], 'L', ARGV[11])
if ARGV[12] ~= '' then
  redis.call('HSET', key, 'W', ARGV[12])
end
local entries = 13 + tonumber(ARGV[13])
in_pieces('HSET', key, ARGV, 14, entries)
in_pieces('RPUSH', list, ARGV, entries + 1, #ARGV)
local created = score_of(about.created)
for place = 1, #places - 1 do
  redis.call('ZADD', places[place], created, id)
end
redis.call('ZADD', places[#places], score_of(archived_in(ARGV[10]) or string.sub(ARGV[10], 105, 122)), id)
void_ticket(base, id)
forget_metrics(base, id)
return {'stored'}

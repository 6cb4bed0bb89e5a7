-- uses: merging
-- Take sessions that are due, oldest first, whole. KEYS: when sessions are due, of one or more buckets. ARGV: now, end of
-- the lease, most sessions, most bytes; then, with one bucket, the ids to take and no others.
-- Answer: of each its id, its fields and values, the bodies. What cannot be read comes as an error in its place.
local now, lease, limit, room = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local taken, bytes = {}, 0

-- False where there is no more room.
local function take(due, id)
  local base, hex = string.sub(due, 1, -5), hex_of(id)
  local facts = redis.pcall('HGET', base .. ':s:' .. hex, 'F')
  local history, state = 0, 0
  if type(facts) == 'string' then
    history, state = tonumber(string.sub(facts, 52, 67)), tonumber(string.sub(facts, 69, 84))
  end
  bytes = bytes + (history or 0) + (state or 0)
  if #taken > 0 and bytes > room then
    return false
  end
  local fields = redis.pcall('HGETALL', base .. ':s:' .. hex)
  if #fields == 0 and not fields.err then
    redis.call('ZREM', due, id) -- there is nothing to come back for
  else
    redis.call('ZADD', due, lease, id)
  end
  taken[#taken + 1] = {id, fields, redis.pcall('LRANGE', base .. ':q:' .. hex, 0, -1)}
  return #taken < limit
end

if #ARGV > 4 then
  for place = 5, #ARGV do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[place])
    if score and tonumber(score) <= now and not take(KEYS[1], ARGV[place]) then
      break
    end
  end
  return taken
end
local streams = {}
for _, key in ipairs(KEYS) do
  local stream = {command = 'ZRANGE', key = key, rank = 0, chunk = math.ceil(limit / #KEYS) + 2}
  if advance(stream) then
    streams[#streams + 1] = stream
  end
end
local chosen = {}
while #streams > 0 and #chosen < limit do
  local first, first_score, first_id
  for number, stream in ipairs(streams) do
    local id, score = stream.items[stream.place], tonumber(stream.items[stream.place + 1])
    if not first or precedes(score, id, first_score, first_id) then
      first, first_score, first_id = number, score, id
    end
  end
  if first_score > now then
    break
  end
  local stream = streams[first]
  chosen[#chosen + 1] = {stream.key, first_id}
  stream.place = stream.place + 2
  if stream.place > #stream.items and not advance(stream) then
    table.remove(streams, first)
  end
end
for _, one in ipairs(chosen) do
  if not take(one[1], one[2]) then
    break
  end
end
return taken

-- uses: facts, times, labels, bulk
-- Apply one change. All checks come before the first write, so that an error leaves nothing half done.
-- KEYS: the session, its queries. ARGV: attempt, writer, change id, head (what follows writer and id in it), instant, version wanted,
-- '=' and owner, most queries, most bytes of state, expiry ('' where there is none of these), cache hits, instants of
-- first and last query, how many queries, entries set and unset, the bodies, the entries set (field, value), the fields
-- unset; then, where the change may move the session: its id, '1' to archive, names added to and removed from assets
-- and tags.
-- Answer: version and queries now; or what stands in the way, with the fact that its error tells.
local key = KEYS[1]
local row = redis.call('HMGET', key, 'F', 'L', 'W')
if not row[1] then
  return {redis.call('EXISTS', key) == 0 and 'gone' or 'damaged', 'it has no facts'}
end
local sub, facts = string.sub, row[1]
local version, total, hits = tonumber(sub(facts, 1, 16)), tonumber(sub(facts, 18, 33)), tonumber(sub(facts, 35, 50))
local history, state = tonumber(sub(facts, 52, 67)), tonumber(sub(facts, 69, 84))
local accessed, expires, archived = sub(facts, 86, 103), sub(facts, 105, 122), sub(facts, 124, 141)
local first, last = sub(facts, 143, 160), sub(facts, 162, 179)
local ends = string.find(facts, ' ', 181, true)
if not (version and total and hits and history and state and ends) then
  return {'damaged', 'its facts cannot be read'}
end
local front = sub(facts, 181, ends - 1)

-- A repeat? Each entry of the memory is writer:change:version:queries; the one that wrote last is in the facts.
local writer, change, others = ARGV[2], ARGV[3], row[3] or ''
local mine
if sub(front, 1, 32) == writer then
  mine = front
else
  local from = string.find(others, writer, 1, true)
  if from then
    local to = string.find(others, ';', from, true)
    mine = sub(others, from, to - 1)
    others = sub(others, 1, from - 1) .. sub(others, to + 1)
  end
  if front ~= '-' then
    others = front .. ';' .. others
  end
end
if mine then
  local known = string.match(mine, '^%d+', 34)
  if known == change then
    local then_version, then_total = string.match(mine, '^%x+:%d+:(%d+):(%d+)$')
    return {tonumber(then_version), tonumber(then_total)}
  end
  if #known > #change or (#known == #change and known > change) then
    return {'unknown'}
  end
elseif ARGV[1] ~= '1' and select(2, string.gsub(others, ';', '')) >= 32 then
  return {'unknown'}
end

-- Whose is it, and does it take changes?
local about
if ARGV[7] ~= '' then
  about = described(row[2])
  if not about then
    return {'damaged', 'its labels cannot be read'}
  end
  if about.user ~= ARGV[7] then
    return {'gone'}
  end
end
local at, later = ARGV[5], ARGV[10]
local queries, sets, unsets = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local entries = 16 + queries
local fields = entries + 2 * sets
local moves = fields + unsets
local archive = ARGV[moves + 2] == '1'
local revives = later ~= '' and at < later and later >= expires
if archived ~= NONE and (archive or not revives) then
  return {'archived', archived}
end
if expires <= at and not (revives or archive) then
  return {'expired', expires}
end
if ARGV[6] ~= '' and tonumber(ARGV[6]) ~= version then
  return {'version', whole(version)}
end
if queries > 0 and ARGV[8] ~= '' and total + queries > tonumber(ARGV[8]) then
  return {'queries', whole(total)}
end

-- What the entries weigh: a field is one letter for its section, and the key.
local size = state
if moves > entries then
  local function weight_of(field)
    local length = redis.call('HSTRLEN', key, field)
    if length == 0 and redis.call('HEXISTS', key, field) == 0 then
      return 0
    end
    return length + #field - 1
  end
  for place = entries + 1, fields, 2 do
    size = size - weight_of(ARGV[place]) + #ARGV[place] - 1 + #ARGV[place + 1]
  end
  for place = fields + 1, moves do
    size = size - weight_of(ARGV[place])
  end
  if sets > 0 and ARGV[9] ~= '' and size > tonumber(ARGV[9]) then
    return {'state', whole(size)}
  end
end
local list = KEYS[2]
local kept = redis.call('LLEN', list)
if kept ~= total then
  return {'damaged', 'it has ' .. kept .. ' of its ' .. whole(total) .. ' queries'}
end

-- Where it is found, and when it is due.
local id, base, gone, new, due, leaves, static = ARGV[moves + 1], nil, nil, nil, nil, nil, nil
if id then
  base, gone, new = sub(key, 1, -36), {}, {}
  about = about or described(row[2])
  if not about then
    return {'damaged', 'its labels cannot be read'}
  end
  local was_archived, was_due, before = archived ~= NONE, expires, {}
  for _, label in ipairs(labels_of(about)) do
    before[index_of(base, was_archived, label)] = true
  end
  local function relabelled(present, added, removed)
    local names, seen, drop = {}, {}, {}
    for _, name in ipairs(names_in(removed)) do
      drop[name] = true
    end
    for _, given in ipairs({present, names_in(added)}) do
      for _, name in ipairs(given) do
        if not seen[name] and not drop[name] then
          seen[name] = true
          names[#names + 1] = name
        end
      end
    end
    return names
  end
  if ARGV[moves + 3] .. ARGV[moves + 4] ~= '' then
    about.assets = relabelled(about.assets, ARGV[moves + 3], ARGV[moves + 4])
  end
  if ARGV[moves + 5] .. ARGV[moves + 6] ~= '' then
    about.tags = relabelled(about.tags, ARGV[moves + 5], ARGV[moves + 6])
  end
  local parts = {about.created, tostring(#about.assets), about.kind, about.user}
  for _, name in ipairs(about.assets) do
    parts[#parts + 1] = name
  end
  for _, name in ipairs(about.tags) do
    parts[#parts + 1] = name
  end
  static = table.concat(parts, '\0') .. '\0'
  if later ~= '' and later >= expires then
    expires, archived = later, NONE
  end
  if archive then
    archived = at
  end
  for _, label in ipairs(labels_of(about)) do
    local index = index_of(base, archived ~= NONE, label)
    if before[index] then
      before[index] = nil
    else
      new[#new + 1] = index
    end
  end
  for index in pairs(before) do
    gone[#gone + 1] = index
  end
  probe(gone)
  probe(new)
  probe({base .. ':due', base .. ':old'})
  if archived == NONE and (was_archived or expires ~= was_due) then
    due = score_of(expires) -- else a lease stays one
  end
  leaves = was_archived and archived == NONE
end

version, total = version + 1, total + queries
if queries > 0 then
  first = (first == NONE or ARGV[12] < first) and ARGV[12] or first
  last = (last == NONE or ARGV[13] > last) and ARGV[13] or last
  for place = 17, entries do
    history = history + #ARGV[place]
  end
end
facts = string.format(
  '%016d %016d %016d %016d %016d %s %s %s %s %s %s:%s:%d:%d =%s', version, total, hits + ARGV[11], history, size,
  accessed < at and at or accessed, expires, archived, first, last, writer, change, version, total, ARGV[4])
if others == (row[3] or '') then
  redis.call('HSET', key, 'F', facts)
else
  if select(2, string.gsub(others, ';', '')) >= 32 then
    others = string.match(others, '^(.*;)[^;]+;$')
  end
  redis.call('HSET', key, 'F', facts, 'W', others)
end
if queries == 1 then
  redis.call('RPUSH', list, ARGV[17])
elseif queries > 1 then
  in_pieces('RPUSH', list, ARGV, 17, entries)
end
if moves > entries then
  in_pieces('HSET', key, ARGV, entries + 1, fields)
  in_pieces('HDEL', key, ARGV, fields + 1, moves)
end
if static and static ~= row[2] then
  redis.call('HSET', key, 'L', static)
end
if id then
  for _, index in ipairs(gone) do
    redis.call('ZREM', index, id)
  end
  for _, index in ipairs(new) do
    redis.call('ZADD', index, score_of(about.created), id)
  end
  if due then
    redis.call('ZADD', base .. ':due', due, id)
  end
  if archived ~= NONE then -- and due still, until whoever archives such sessions has told of it
    redis.call('ZADD', base .. ':old', score_of(archived), id)
  elseif leaves then
    redis.call('ZREM', base .. ':old', id)
  end
end
return {version, total}

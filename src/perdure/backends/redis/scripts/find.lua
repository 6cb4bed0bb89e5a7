-- uses: merging
-- A piece of a listing, newest first. KEYS: one bucket or more, as '{name:number}'. ARGV: how many, '1' for the facts as
-- well, which kinds ('a', 'z', 'az'), score and id to begin below ('' for none), score to stay below ('' for none), lowest
-- score ('' for none), how many entries to look at in all, then the labels that all must be there.
-- Answer: of each its id, score, and facts (or only id and score), and where the next piece begins (score, id), or nothing
-- where this was all.
local limit, with_facts, kinds, budget = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3], tonumber(ARGV[8])
local below, below_id, before, lowest = tonumber(ARGV[4]), hex_of(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- The place of the first entry below the cursor; among many of one instant it is looked for by halving.
local function place_below(key)
  local first = redis.call('ZCOUNT', key, '(' .. ARGV[4], '+inf')
  local last = redis.call('ZCOUNT', key, ARGV[4], '+inf')
  while first < last do
    local middle = math.floor((first + last) / 2)
    if hex_of(redis.call('ZREVRANGE', key, middle, middle)[1]) < below_id then
      last = middle
    else
      first = middle + 1
    end
  end
  return first
end

-- The index with the fewest entries is read, the others are asked.
local function opened(base, kind)
  local keys, rarest, fewest = {}, nil, nil
  for place = 9, #ARGV do
    local key = base .. ':' .. kind .. ':' .. ARGV[place]
    local count = redis.call('ZCARD', key)
    if not fewest or count < fewest then
      rarest, fewest = #keys + 1, count
    end
    keys[#keys + 1] = key
  end
  if fewest == 0 then
    return nil
  end
  local stream = {command = 'ZREVRANGE', base = base, key = table.remove(keys, rarest), others = keys,
    rank = 0, examined = 0, chunk = math.ceil(limit / (#KEYS * #kinds)) + 2}
  if below then
    stream.rank = place_below(stream.key)
  end
  if before then
    stream.rank = math.max(stream.rank, redis.call('ZCOUNT', stream.key, ARGV[6], '+inf'))
  end
  return stream
end

-- Drop from the piece just read what is too old, and what lacks a label.
local function sift(stream)
  local ids, scores = {}, {}
  for place = 1, #stream.items, 2 do
    local id, score = stream.items[place], tonumber(stream.items[place + 1])
    stream.score, stream.id = score, id
    if lowest and score < lowest then
      stream.is_over = true
      break
    end
    ids[#ids + 1], scores[#scores + 1] = id, score
  end
  for _, key in ipairs(stream.others) do
    if #ids == 0 then
      break
    end
    local there, left, left_scores = redis.call('ZMSCORE', key, unpack(ids)), {}, {}
    for number, id in ipairs(ids) do
      if there[number] then
        left[#left + 1], left_scores[#left_scores + 1] = id, scores[number]
      end
    end
    ids, scores = left, left_scores
  end
  stream.ids, stream.scores, stream.place = ids, scores, 1
end

-- Until the stream has an entry or is at its end; false where its share is spent before that. Each stream has one of its
-- own, so that every piece gets further.
local share
local function refill(stream)
  while not stream.is_over and not (stream.ids and stream.ids[stream.place]) do
    if stream.examined >= share then
      return false
    end
    if not advance(stream) then
      stream.is_over, stream.ids = true, {}
      return true
    end
    stream.examined = stream.examined + #stream.items / 2
    sift(stream)
  end
  return true
end

local streams = {}
for _, base in ipairs(KEYS) do
  for kind in string.gmatch(kinds, '.') do
    streams[#streams + 1] = opened(base, kind)
  end
end
share = budget / math.max(1, #streams)
local found, bound, bound_id = {}, nil, nil
while #found < limit do
  local first
  bound = nil
  for _, stream in ipairs(streams) do
    if not refill(stream) then
      -- What it has in store below this is not known: whoever asks again begins here.
      if not bound or precedes(bound, bound_id, stream.score, stream.id) then
        bound, bound_id = stream.score, stream.id
      end
    elseif stream.ids[stream.place] then
      local score, id = stream.scores[stream.place], stream.ids[stream.place]
      if not first or precedes(first.scores[first.place], first.ids[first.place], score, id) then
        first = stream
      end
    end
  end
  if not first then
    break
  end
  local score, id = first.scores[first.place], first.ids[first.place]
  if bound and not precedes(bound, bound_id, score, id) then
    break
  end
  if with_facts then
    found[#found + 1] = {id, string.format('%.0f', score), redis.pcall('HMGET', first.base .. ':s:' .. hex_of(id), 'F', 'L')}
  else
    found[#found + 1] = {id, string.format('%.0f', score)}
  end
  first.place = first.place + 1
end
if bound and #found < limit then
  return {found, {string.format('%.0f', bound), bound_id}}
end
return {found}

local function names_in(text)
  local names = {}
  for name in string.gmatch(text, '([^%z]*)%z') do
    names[#names + 1] = name
  end
  return names
end

-- What rarely changes about a session: when it was created, type, user, assets, tags. nil where it cannot be read.
local function described(text)
  local parts = names_in(text or '')
  local assets = tonumber(parts[2] or '')
  if not assets or #parts < 4 + assets or #parts[1] ~= 18 then
    return nil
  end
  local about = {created = parts[1], kind = parts[3], user = parts[4], assets = {}, tags = {}}
  for place = 5, #parts do
    local names = place - 4 <= assets and about.assets or about.tags
    names[#names + 1] = parts[place]
  end
  return about
end

local function labels_of(about)
  local labels = {'all', 'type:' .. about.kind}
  if about.user ~= '' then
    labels[3] = 'user:' .. string.sub(about.user, 2)
  end
  for _, asset in ipairs(about.assets) do
    labels[#labels + 1] = 'asset:' .. asset
  end
  for _, tag in ipairs(about.tags) do
    labels[#labels + 1] = 'tag:' .. tag
  end
  return labels
end

-- The sorted set of a label: archived sessions have their own.
local function index_of(base, archived, label)
  return base .. (archived and ':z:' or ':a:') .. label
end

-- Fails, before anything is written, where a key to be written is no sorted set, or not of this node any more.
local function probe(keys)
  for _, key in ipairs(keys) do
    redis.call('ZCARD', key)
  end
end

local function void_ticket(base, id)
  redis.call('HDEL', base .. ':tickets', id)
  redis.call('ZREM', base .. ':taken', id)
end

-- uses: facts, times, labels, merging
-- Compare a piece of an index with the sessions that it names. KEYS: the index. ARGV: the bucket as '{name:number}', the
-- index without that, the first and the last place. Answer: how many entries there were, labels of these sessions (of the
-- index of all only), and for each thing that is wrong the id and a sentence.
local base, name = ARGV[1], ARGV[2]
local ids = redis.call('ZRANGE', KEYS[1], ARGV[3], ARGV[4])
local kind, label = string.match(name, '^([az]):(.*)$')
local wrong, seen = {}, {}

local function report(id, sentence)
  wrong[#wrong + 1] = {id, sentence}
end

-- What must hold of a session that can be read: it is in every index where it belongs, and in no other of these.
local function compare(id, hex, about, facts)
  local total, since = tonumber(string.sub(facts, 18, 33)), archived_in(facts)
  local is_archived = since ~= nil
  for _, own in ipairs(labels_of(about)) do
    seen[own] = true
    local score = redis.call('ZSCORE', index_of(base, is_archived, own), id)
    if not score then
      report(id, 'is missing in the index ' .. own)
    elseif tonumber(score) ~= tonumber(score_of(about.created)) then
      report(id, 'has another time of creation in the index ' .. own)
    end
    if redis.call('ZSCORE', index_of(base, not is_archived, own), id) then
      report(id, 'is in the index ' .. own .. ' of ' .. (is_archived and 'active' or 'archived') .. ' sessions too')
    end
  end
  local old = redis.call('ZSCORE', base .. ':old', id)
  if is_archived and not (old and tonumber(old) == tonumber(score_of(since))) then
    report(id, 'is not known to retention')
  elseif not is_archived and old then
    report(id, 'is known to retention, though it is not archived')
  end
  if not is_archived and not redis.call('ZSCORE', base .. ':due', id) then
    report(id, 'will never be due')
  end
  local kept = redis.pcall('LLEN', base .. ':q:' .. hex)
  if kept ~= total then
    report(id, 'has ' .. tostring(type(kept) == 'number' and kept or 'none') .. ' of its ' .. whole(total) .. ' queries')
  end
end

for _, id in ipairs(ids) do
  local hex = hex_of(id)
  local key = base .. ':s:' .. hex
  local row = redis.call('TYPE', key).ok == 'hash' and redis.call('HMGET', key, 'F', 'L') or {}
  local about = described(row[2] or '')
  if redis.call('EXISTS', key) == 0 then
    report(id, 'is in the index ' .. name .. ', and nothing of it is kept')
  elseif not about or not row[1] or not are_facts(row[1]) then
    if label == 'all' then
      report(id, 'cannot be read')
    end
  elseif label == 'all' then
    compare(id, hex, about, row[1])
  elseif not redis.call('ZSCORE', index_of(base, archived_in(row[1]) ~= nil, 'all'), id) then
    report(id, 'is missing in the index all')
  elseif label then
    local has = false
    for _, own in ipairs(labels_of(about)) do
      has = has or own == label
    end
    if not has then
      report(id, 'is in the index ' .. label .. ', where it does not belong')
    end
  end
end
local labels = {}
for own in pairs(seen) do
  labels[#labels + 1] = own
end
return {#ids, labels, wrong}

-- uses: merging
-- What sessions of one bucket count that retention removed, newest first. KEYS: when they were created, what they count.
-- ARGV: score and id to begin below ('' for none), lowest score ('' for none), how many. Answer: id, score and text of each.
local below, lowest = ARGV[1] ~= '' and ARGV[1] or '+inf', ARGV[3] ~= '' and ARGV[3] or '-inf'
local rank = 0
if ARGV[1] ~= '' then
  -- Among many of one instant, the place of the first below the id is looked for by halving.
  local below_id = hex_of(ARGV[2])
  local first = redis.call('ZCOUNT', KEYS[1], '(' .. below, '+inf')
  local last = redis.call('ZCOUNT', KEYS[1], below, '+inf')
  while first < last do
    local middle = math.floor((first + last) / 2)
    if hex_of(redis.call('ZREVRANGE', KEYS[1], middle, middle)[1]) < below_id then
      last = middle
    else
      first = middle + 1
    end
  end
  rank = first
end
local most = math.min(tonumber(ARGV[4]), redis.call('ZCOUNT', KEYS[1], lowest, '+inf') - rank)
local found = {}
if most > 0 then
  local items = redis.call('ZREVRANGE', KEYS[1], rank, rank + most - 1, 'WITHSCORES')
  for place = 1, #items, 2 do
    found[#found + 1] = {items[place], string.format('%.0f', tonumber(items[place + 1])), redis.call('HGET', KEYS[2], items[place])}
  end
end
return found

local function hex_of(id)
  return #id == 16 and string.format(
    '%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x', string.byte(id, 1, 16)) or ''
end

-- Whether one entry of a sorted set comes before another. Ids are compared as hex: Lua compares bytes as words of the
-- server's language.
local function precedes(score, id, other_score, other_id)
  return score < other_score or (score == other_score and hex_of(id) < hex_of(other_id))
end

-- The next piece of a stream: { command, key, rank, chunk }; its entries are in `items`, from `place` on, each followed
-- by its score. False at its end.
local function advance(stream)
  stream.items = redis.call(stream.command, stream.key, stream.rank, stream.rank + stream.chunk - 1, 'WITHSCORES')
  stream.rank = stream.rank + #stream.items / 2
  stream.chunk = math.min(2 * stream.chunk, 500)
  stream.place = 1
  return #stream.items > 0
end

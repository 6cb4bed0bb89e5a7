-- Forget a session, its entries in the indices and its ticket, whatever of it can still be read.
local function remove(base, hex, id, facts, about)
  local places = {base .. ':due', base .. ':old'}
  local archived -- '-' where it is not; nil where nobody knows
  if facts then
    archived = select(8, string.match(facts, FACTS))
  end
  for _, label in ipairs(about and labels_of(about) or {}) do
    if archived == nil or archived == '-' then
      places[#places + 1] = index_of(base, false, label)
    end
    if archived ~= '-' then
      places[#places + 1] = index_of(base, true, label)
    end
  end
  probe(places)
  redis.call('ZCARD', base .. ':taken')
  redis.call('HLEN', base .. ':tickets')
  for _, place in ipairs(places) do
    redis.call('ZREM', place, id)
  end
  redis.call('UNLINK', base .. ':s:' .. hex, base .. ':q:' .. hex)
  void_ticket(base, id)
end

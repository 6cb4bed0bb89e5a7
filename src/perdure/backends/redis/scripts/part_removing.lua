-- Forget a session, its entries in the indices and its ticket, whatever of it can still be read.
local function remove(base, hex, id, facts, about)
  local places = {base .. ':due', base .. ':old'}
  local may_be_active, may_be_archived = true, true -- where nobody knows
  if facts and are_facts(facts) then
    may_be_archived = archived_in(facts) ~= nil
    may_be_active = not may_be_archived
  end
  for _, label in ipairs(about and labels_of(about) or {}) do
    if may_be_active then
      places[#places + 1] = index_of(base, false, label)
    end
    if may_be_archived then
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

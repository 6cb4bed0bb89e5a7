-- uses: facts, copies
-- The archiving of this very copy was told of: it is due no longer. KEYS: the session, when sessions of its bucket are
-- due. ARGV: its id, version, head.
local facts = redis.call('HGET', KEYS[1], 'F')
local version, head, since = copy_in(facts or '')
if version == ARGV[2] and head == ARGV[3] and since then
  return redis.call('ZREM', KEYS[2], ARGV[1])
end
return 0

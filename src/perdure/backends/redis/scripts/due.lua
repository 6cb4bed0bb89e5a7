-- uses: merging
-- What is due in one bucket, oldest first. KEYS: when sessions are due. ARGV: now, how many.
-- Answer: of each its id, when it was due, its bytes.
local base, found = string.sub(KEYS[1], 1, -5), {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for place = 1, #due, 2 do
  local facts = redis.pcall('HGET', base .. ':s:' .. hex_of(due[place]), 'F')
  local history, state = 0, 0
  if type(facts) == 'string' then
    history, state = tonumber(string.sub(facts, 52, 67)), tonumber(string.sub(facts, 69, 84))
  end
  found[#found + 1] = {due[place], due[place + 1], (history or 0) + (state or 0)}
end
return found

-- What is kept of some sessions of one bucket. KEYS: the tombstones, the sessions. ARGV: their ids.
-- Answer: of each its facts, or when its tombstone may be forgotten, or nothing; an error where it is no session.
local found = {}
for number, id in ipairs(ARGV) do
  found[number] = {redis.pcall('HGET', KEYS[number + 1], 'F'), redis.call('ZSCORE', KEYS[1], id)}
end
return found

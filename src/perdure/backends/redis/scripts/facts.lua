-- Of each session of one bucket what a listing tells. KEYS: the sessions. What cannot be read comes as an error.
local found = {}
for number, key in ipairs(KEYS) do
  found[number] = redis.pcall('HMGET', key, 'F', 'L')
end
return found

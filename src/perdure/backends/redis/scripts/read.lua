-- A session as of one instant. KEYS: the session, its queries. ARGV: how many of the newest queries, '' for all.
-- Answer: its fields and values, the bodies. Nothing where it is not kept.
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then
  return false
end
if ARGV[1] == '0' then
  return {fields, {}}
end
return {fields, redis.call('LRANGE', KEYS[2], ARGV[1] == '' and 0 or '-' .. ARGV[1], -1)}

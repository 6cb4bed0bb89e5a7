-- A copy that fades, as of one instant. KEYS: the copy, its queries. ARGV: how many of the newest queries, '' for all.
-- Answer: its fields and values, the bodies. Nothing where there is no copy, or it holds fewer.
local row = redis.call('HMGET', KEYS[1], 'N', 'F')
if not row[1] then
  return false
end
local held, total = tonumber(row[1]), tonumber(string.sub(row[2], 18, 33))
local wanted = math.min(ARGV[1] == '' and total or tonumber(ARGV[1]), total)
if held < wanted or redis.call('LLEN', KEYS[2]) ~= held then
  return false
end
local fields = redis.call('HGETALL', KEYS[1])
return {fields, wanted == 0 and {} or redis.call('LRANGE', KEYS[2], -wanted, -1)}

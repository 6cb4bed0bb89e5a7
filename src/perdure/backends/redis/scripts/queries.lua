-- uses: labels
-- A page of history. KEYS: the session, its queries. ARGV: after, before ('' for none), limit, owner ('=' and who, or '').
-- Answer: how many queries there are, the position of the first of these, these. Nothing where there is no such session.
local row = redis.call('HMGET', KEYS[1], 'F', 'L')
if not row[1] then
  return redis.call('EXISTS', KEYS[1]) == 1 and {'damaged', 'it has no facts'} or false
end
if ARGV[4] ~= '' then
  local about = described(row[2])
  if not about then
    return {'damaged', 'its labels cannot be read'}
  end
  if about.user ~= ARGV[4] then
    return false
  end
end
local total = tonumber(string.sub(row[1], 18, 33))
if not total then
  return {'damaged', 'its facts cannot be read'}
end
local limit = tonumber(ARGV[3])
local first, last = tonumber(ARGV[1]) + 1, total
if ARGV[2] ~= '' then
  last = math.min(tonumber(ARGV[2]) - 1, total)
  if first == 1 then
    first = math.max(first, last - limit + 1)
  end
end
last = math.min(last, first + limit - 1)
if last < first then
  return {total, first, {}}
end
return {total, first, redis.call('LRANGE', KEYS[2], first - 1, last - 1)}

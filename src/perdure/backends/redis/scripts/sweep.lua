-- Note that a sweep starts, unless one did not long ago. KEYS: when the last one did. ARGV: attempt, now, the instant one
-- interval ago ('' where any sweep may start), a token of the caller. Answer: 1 where this one starts.
local last, token = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%x+)$')
if last and ARGV[1] ~= '1' and token == ARGV[4] then
  return 1 -- noted by an attempt before, whose answer was lost
end
if last and ARGV[3] ~= '' and last <= ARGV[2] and last > ARGV[3] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[4])
return 1

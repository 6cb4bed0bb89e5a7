-- uses: bulk
-- Keep a copy of what another backend is the truth of, for a while. KEYS: the copy, its queries, the ticket. ARGV: attempt,
-- ticket, how long from when it was taken, how long a ticket is good (both in milliseconds), facts, static text, memory of
-- writers, how many entries (fields and values together), the entries, the bodies. Answer: 1 where it is kept.
local taken, left = redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])
if not taken and ARGV[1] ~= '1' and redis.call('HGET', KEYS[1], 'T') == ARGV[2] then
  return 1 -- by an attempt before, whose answer was lost
end
local lifetime = ARGV[3] - (ARGV[4] - left)
if taken ~= ARGV[2] or left < 0 or lifetime <= 0 then
  return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'F', ARGV[5], 'L', ARGV[6], 'W', ARGV[7], 'T', taken)
local entries = 8 + tonumber(ARGV[8])
in_pieces('HSET', KEYS[1], ARGV, 9, entries)
in_pieces('RPUSH', KEYS[2], ARGV, entries + 1, #ARGV)
redis.call('HSET', KEYS[1], 'N', #ARGV - entries)
redis.call('PEXPIRE', KEYS[1], lifetime)
redis.call('PEXPIRE', KEYS[2], lifetime)
return 1

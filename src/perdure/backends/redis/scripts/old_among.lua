-- Which of some sessions of one bucket were archived before an instant. KEYS: when sessions were archived. ARGV: the
-- instant, their ids. Answer: ids and scores.
local found = {}
for place = 2, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[place])
  if score and tonumber(score) < tonumber(ARGV[1]) then
    found[#found + 1] = ARGV[place]
    found[#found + 1] = score
  end
end
return found

-- A command with many arguments, in pieces: Lua's stack is bounded.
local function in_pieces(command, key, values, first, last)
  for from = first, last, 1000 do
    redis.call(command, key, unpack(values, from, math.min(from + 999, last)))
  end
end

-- The score of an instant: its microseconds since 1970, exact until the year 2255.
local function score_of(instant)
  local high, low = tonumber(string.sub(instant, 1, 9)), tonumber(string.sub(instant, 10))
  return string.format('%.0f', (high - 62135596) * 1000000000 + (low - 800000000))
end

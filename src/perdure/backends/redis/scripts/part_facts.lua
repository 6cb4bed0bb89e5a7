-- What a session is at present, in one text; `codec.py` writes and reads the same:
-- version, queries, cache hits, bytes of history and of state, last access, expiry, archived, first and last query,
-- the writer that wrote last, head. Instants have 18 digits, so that text is compared as time; '-' is none.
local FACTS = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%S+) ([=~].*)$'

-- A number as text: Lua's own way is rounded at 14 digits.
local function whole(number)
  return string.format('%.0f', number)
end

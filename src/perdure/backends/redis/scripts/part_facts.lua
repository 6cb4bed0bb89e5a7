-- What a session is at present, in one text where each fact has its place; `codec.py` writes and reads the same.
-- Numbers: version 1-16, queries 18-33, cache hits 35-50, bytes of history 52-67 and of state 69-84. Instants: last access
-- 86-103, expiry 105-122, archived 124-141, first query 143-160, last query 162-179; with 18 digits each, so that text
-- is compared as time. From 181 on the writer that wrote last ('-' is none), and the head.
local NONE = '------------------'

-- A number as text: Lua's own way is rounded at 14 digits.
local function whole(number)
  return string.format('%.0f', number)
end

-- Since when the session is archived; nil where it is not.
local function archived_in(facts)
  local instant = string.sub(facts, 124, 141)
  return instant ~= NONE and instant or nil
end

-- Whether these can be facts at all.
local function are_facts(facts)
  return string.find(facts, '^%d+ %d+ %d+ %d+ %d+ %d+ %d+ [%d-]+ [%d-]+ [%d-]+ %S+ [=~]') == 1
    and string.sub(facts, 180, 180) == ' '
end

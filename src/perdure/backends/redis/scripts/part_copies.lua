-- Which copy the facts are of: version, head, since when it is archived (nil where it is not); nothing where they cannot
-- be read.
local function copy_in(facts)
  if not are_facts(facts) then
    return nil
  end
  local front, head = string.match(facts, '^(%S+) (.*)$', 181)
  local tail = string.sub(head, 2)
  if string.sub(head, 1, 1) == '=' then -- made by the writer that wrote last
    local writer, change = string.match(front, '^(%x+):(%d+)')
    tail = writer .. '.' .. change .. tail
  end
  return whole(tonumber(string.sub(facts, 1, 16))), tail, archived_in(facts)
end

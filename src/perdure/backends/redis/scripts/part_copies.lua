-- Which copy the facts are of: version, head, when archived ('-' where it is not); nothing where they cannot be read.
local function copy_in(facts)
  local version, archived, front, head =
    string.match(facts, '^(%d+) %d+ %d+ %d+ %d+ %d+ %d+ (%S+) %S+ %S+ (%S+) ([=~].*)$')
  if not version then
    return nil
  end
  local tail = string.sub(head, 2)
  if string.sub(head, 1, 1) == '=' then -- made by the writer that wrote last
    local writer, change = string.match(front, '^(%x+):(%d+)')
    tail = writer .. '.' .. change .. tail
  end
  return version, tail, archived
end

-- Look for a task in a stream, some entries at a time; writes nothing.
-- KEYS: namespace. ARGV: the task's id; what the stream is called after the namespace; the id of the entry to go on after
-- or ''; how many entries. Returns {1, its entry's id, how many were before it, field, value... but for the body}, or
-- {0, the last id looked at, '' where that was the end; how many were looked at}.
-- include names
local task, stream, after, most = ARGV[1], NS .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local entries = redis.pcall('XRANGE', stream, after == '' and '-' or '(' .. after, '+', 'COUNT', most)
if entries.err then return {0, '', 0} end
for n, entry in ipairs(entries) do
  local found, headers = {1, entry[1], n - 1}, nil
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'headers' then headers = value end
    if name ~= 'body' then
      found[#found + 1] = name
      found[#found + 1] = value
    end
  end
  -- The id may be that of a parent: only what has the text is worth parsing.
  if headers and string.find(headers, task, 1, true) then
    local ok, value = pcall(cjson.decode, headers)
    if ok and type(value) == 'table' and value.id == task then return found end
  end
end
return {0, #entries == most and entries[#entries][1] or '', #entries}

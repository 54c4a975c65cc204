-- Look for a task in some places, one after the other, as far as one call may; writes nothing.
-- KEYS: namespace. ARGV: the task's id; 1 where the places are tenants' ids, 0 where they are what streams are called after
-- the namespace; where to go on in the first of them: the number of its stream, the id of the entry to go on after or '',
-- how many entries were before that; then the places. A tenant's streams are looked through from the most urgent one on.
-- Returns {1, how many places were done, the entry's id, how many entries of the place were before it, field, value... but
-- for the body}, or {0, how many places are done, entries looked at; where to go on, as above}.
-- include keys
local MOST_BYTES, MOST_LOOKS = 2 ^ 18, 500
local task, of_tenants = ARGV[1], ARGV[2] == '1'
local number, after, before = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local bytes, looks, looked = 0, 0, 0

-- Append the entry's fields, without its body, to `fields`. Returns whether it is the task.
local function read(entry, fields)
  local headers
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    bytes = bytes + #name + #value
    if name == 'headers' then headers = value end
    if name ~= 'body' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  -- The id may be that of a parent: only what has the text is worth parsing.
  if not headers or not string.find(headers, task, 1, true) then return false end
  local ok, value = pcall(cjson.decode, headers)
  return ok and type(value) == 'table' and value.id == task
end

for place = 6, #ARGV do
  local streams = of_tenants and keys.tenant_streams(ARGV[place]) or {NS .. ARGV[place]}
  while streams[number] do
    if bytes >= MOST_BYTES or looks >= MOST_LOOKS then return {0, place - 6, looked, number, after, before} end
    -- One by one: how much more they are is not known. An error is that of a key that is no stream, or may not be read.
    local entry = redis.pcall('XRANGE', streams[number], after == '' and '-' or '(' .. after, '+', 'COUNT', 1)[1]
    looks = looks + 1
    if entry then
      local found = {1, place - 6, entry[1], before}
      if read(entry, found) then return found end
      after, before, looked = entry[1], before + 1, looked + 1
    else
      number, after = number + 1, ''
    end
  end
  number, before = 1, 0
end
return {0, #ARGV - 5, looked, 1, '', 0}

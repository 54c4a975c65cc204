-- Whose tasks are in egress, as far as the user may read tasks; writes nothing.
-- KEYS: namespace. ARGV: stream of egress, the id of the entry to go on after or '', how many entries.
-- Returns {the last id looked at, '' where that was the end, tenant's id, how many, ...}.
-- include keys
local stream, after, most = keys.egress(tonumber(ARGV[1])), ARGV[2], tonumber(ARGV[3])
local counts, order = {}, {}
local entries = redis.pcall('XRANGE', stream, after == '' and '-' or '(' .. after, '+', 'COUNT', most)
-- A user may be kept from reading tasks.
if entries.err then return {''} end
for _, entry in ipairs(entries) do
  local sub, tenant = '', ''
  for i = 1, #entry[2], 2 do
    local name = entry[2][i]
    if name == 'tenant' then tenant = entry[2][i + 1] elseif name == 'sub' then sub = entry[2][i + 1] end
  end
  local id = sub .. ':' .. tenant
  if not counts[id] then order[#order + 1] = id end
  counts[id] = (counts[id] or 0) + 1
end
local found = {#entries == most and entries[#entries][1] or ''}
for _, id in ipairs(order) do
  found[#found + 1] = id
  found[#found + 1] = counts[id]
end
return found

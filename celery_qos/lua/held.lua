-- Whose tasks are in egress, as far as the user may read tasks, and as one call may look; writes nothing.
-- KEYS: namespace. ARGV: stream of egress, the id of the entry to go on after or ''.
-- Returns {the last id looked at, '' where that was the end, tenant's id, how many, ...}.
-- include keys
local MOST_BYTES, MOST_LOOKS = 2 ^ 18, 500
local stream, after = keys.egress(tonumber(ARGV[1])), ARGV[2]
local counts, order, bytes, looks = {}, {}, 0, 0
while bytes < MOST_BYTES and looks < MOST_LOOKS do
  -- A user may be kept from reading tasks.
  local entry = redis.pcall('XRANGE', stream, after == '' and '-' or '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then
    after = ''
    break
  end
  local sub, tenant = '', ''
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    bytes = bytes + #name + #value
    if name == 'tenant' then tenant = value elseif name == 'sub' then sub = value end
  end
  local id = sub .. ':' .. tenant
  if not counts[id] then order[#order + 1] = id end
  counts[id] = (counts[id] or 0) + 1
  after, looks = entry[1], looks + 1
end
local found = {after}
for _, id in ipairs(order) do
  found[#found + 1] = id
  found[#found + 1] = counts[id]
end
return found

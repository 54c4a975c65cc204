-- Since when the oldest waiting task of each of some tenants has waited; writes nothing.
-- KEYS: namespace. ARGV: tenants' ids. Returns for each of the first ones, as many as one call may look at, the ms of the
-- server's clock, 0 where none waits, or where the user may not read tasks.
-- include keys
local MOST_BYTES = 2 ^ 18
local found, bytes = {}, 0

-- Since when the entry waits: where it was moved here, or was delayed, it says so.
local function since(entry)
  local text = entry[1]
  for i = 1, #entry[2], 2 do
    bytes = bytes + #entry[2][i + 1]
    if entry[2][i] == 'due' then text = entry[2][i + 1] end
  end
  local ms = string.match(text, '^%d+') or ''
  return tonumber(#ms < 16 and ms or nil) or tonumber(string.match(entry[1], '^%d+'))
end

for _, id in ipairs(ARGV) do
  if bytes >= MOST_BYTES then break end
  local oldest = 0
  for _, stream in ipairs(keys.tenant_streams(id)) do
    local entry = redis.pcall('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local ms = entry and since(entry)
    if ms and (oldest == 0 or ms < oldest) then oldest = ms end
  end
  found[#found + 1] = oldest
end
return found

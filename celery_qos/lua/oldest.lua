-- Since when the oldest waiting task of each of some tenants has waited; writes nothing.
-- KEYS: namespace. ARGV: tenants' ids. Returns for each the ms of the server's clock, 0 where none waits, or where the
-- user may not read tasks.
-- include keys
local found = {}
for _, id in ipairs(ARGV) do
  local oldest = 0
  for _, stream in ipairs(keys.tenant_streams(id)) do
    local entry = redis.pcall('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local ms = entry and tonumber(string.match(entry[1], '^%d+'))
    if ms and (oldest == 0 or ms < oldest) then oldest = ms end
  end
  found[#found + 1] = oldest
end
return found

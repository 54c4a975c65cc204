-- What waits in one of a tenant's streams, without the bodies; writes nothing.
-- KEYS: namespace. ARGV: the tenant's id, priority, the entry after which to go on or '', how many.
-- Returns of each {the entry's id, headers, properties}.
-- include names
local found, after = {}, ARGV[3]
local entries = redis.pcall('XRANGE', keys.tenant_stream(ARGV[1], ARGV[2]), after == '' and '-' or '(' .. after, '+',
  'COUNT', ARGV[4])
if entries.err then return string.find(entries.err, 'WRONGTYPE', 1, true) and {} or entries end
for i, entry in ipairs(entries) do
  found[i] = {entry[1], '', ''}
  for j = 1, #entry[2], 2 do
    if entry[2][j] == 'headers' then found[i][2] = entry[2][j + 1] end
    if entry[2][j] == 'properties' then found[i][3] = entry[2][j + 1] end
  end
end
return found

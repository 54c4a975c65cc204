-- What waits in one of a tenant's streams, without the bodies; writes nothing.
-- KEYS: namespace. ARGV: the tenant's id, priority, the entry after which to go on or '', how many at most.
-- Returns of each {the entry's id, headers, properties}: fewer where they are large, none only past the last.
-- include names
-- Bodies are looked over as well: their sum, in bytes, that one call goes through.
local MOST_BYTES = 2 ^ 20
local stream, after, found, bytes = keys.tenant_stream(ARGV[1], ARGV[2]), ARGV[3], {}, 0
while #found < tonumber(ARGV[4]) and bytes < MOST_BYTES do
  local entries = redis.pcall('XRANGE', stream, after == '' and '-' or '(' .. after, '+', 'COUNT', 1)
  if entries.err then return string.find(entries.err, 'WRONGTYPE', 1, true) and {} or entries end
  local entry = entries[1]
  if not entry then break end
  after = entry[1]
  local row = {after, '', ''}
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'headers' then row[2] = value end
    if name == 'properties' then row[3] = value end
    bytes = bytes + #value
  end
  found[#found + 1] = row
end
return found

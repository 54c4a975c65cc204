-- The next entries of a list that goes to another server: the same ones until they are dropped.
-- KEYS: the list, the entries under way, their number. ARGV: how many at most, a name for the ferry where it has none.
-- Returns {name, number, entry...}, the oldest first; {name, '0'} where none are left; nothing where it has no name.
local MOST_BYTES = 2 ^ 20
if redis.call('EXISTS', KEYS[2]) == 0 then
  local count, bytes = 0, 0
  while count < tonumber(ARGV[1]) and bytes < MOST_BYTES do
    local entry = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
    if not entry then break end
    count, bytes = count + 1, bytes + #entry
  end
  if redis.call('EXISTS', KEYS[2]) == 0 then
    local name = redis.call('HGET', KEYS[3], 'name')
    return name and {name, '0'} or {}
  end
  redis.call('HSETNX', KEYS[3], 'name', ARGV[2])
  redis.call('HINCRBY', KEYS[3], 'number', 1)
end
local entries = redis.call('LRANGE', KEYS[2], 0, -1)
local reply = redis.call('HMGET', KEYS[3], 'name', 'number')
for i = #entries, 1, -1 do reply[#reply + 1] = entries[i] end
return reply

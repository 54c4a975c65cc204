-- Entries have come in at the other server, so they need not be kept here.
-- KEYS: the entries under way, their number. ARGV: the ferry's name, the number. Returns 1 where they were there.
local now = redis.call('HMGET', KEYS[2], 'name', 'number')
if now[1] ~= ARGV[1] or now[2] ~= ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])

-- Nothing is left to ferry: the ferry's name ends, unless there is something under way again.
-- KEYS: the entries under way, their number. ARGV: the ferry's name. Returns 1 where it ended.
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('HGET', KEYS[2], 'name') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[2])

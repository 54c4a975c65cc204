-- Take entries in that another server sent: those of one number once.
-- KEYS: the list, the number of those that came last. ARGV: their number, then the entries. Returns how many are new.
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('LLEN', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1])
for i = 2, #ARGV do redis.call('LPUSH', KEYS[1], ARGV[i]) end
return #ARGV - 1

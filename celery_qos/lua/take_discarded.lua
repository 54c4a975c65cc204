-- Take tasks that Celery is to be told of: they will not run.
-- KEYS: namespace. ARGV: how many at most. Returns entries as XRANGE does.
-- include keys
local entries = redis.call('XRANGE', keys.DISCARDED, '-', '+', 'COUNT', ARGV[1])
for _, entry in ipairs(entries) do redis.call('XDEL', keys.DISCARDED, entry[1]) end
if redis.call('XLEN', keys.DISCARDED) == 0 then redis.call('DEL', keys.DISCARDED) end
return entries

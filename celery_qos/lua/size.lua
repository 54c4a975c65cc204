-- How many tasks nobody holds yet: delayed, waiting, and in egress but not delivered.
-- KEYS: namespace. Returns the count, or -1 where there is no such queue.
-- include keys, settings, egress
settings.load_settings()
if redis.call('EXISTS', keys.SETTINGS, keys.egress(0), keys.WAITING, keys.DELAYED) == 0 then return -1 end
local size = keys.whole(redis.call('HGET', keys.STATE, 'waiting'), 0, -2 ^ 40, 2 ^ 40) + redis.call('ZCARD', keys.DELAYED)
for stream = 0, settings.queue.shards - 1 do size = size + redis.call('XLEN', keys.egress(stream)) end
for _, each in pairs(egress.groups()) do size = size - each.pending end
-- Accounts that were deleted by hand must not make a queue look like none.
return math.max(0, size)

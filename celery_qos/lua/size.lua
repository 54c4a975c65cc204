-- How many tasks nobody holds yet: waiting, and in egress but not delivered.
-- KEYS: namespace. Returns the count, or -1 where there is no such queue.
-- include keys, workers
if redis.call('EXISTS', SETTINGS, EGRESS, WAITING) == 0 then return -1 end
local delivered = group()
local size = tonumber(redis.call('HGET', STATE, 'waiting') or 0) + redis.call('XLEN', EGRESS)
-- Accounts that were deleted by hand must not make a queue look like none.
return math.max(0, size - (delivered and delivered.pending or 0))

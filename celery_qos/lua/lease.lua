-- Register a consumer with its slots, or renew its lease. With no slots the lease holds only while it has tasks.
-- KEYS: namespace. ARGV: consumer, slots, lease in ms, how many tasks it may be at work on at a time, or '' for all that
-- it has.
-- Returns {1 where the consumer had no lease before, tasks it has (with no slots), streams of egress to read, 1 where
-- free slots are left to fill, the server's time in ms}.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
local consumer, slots = ARGV[1], tonumber(ARGV[2])
local held, now = 0, clock.now_ms()
egress.allow_when_full()
if slots == 0 then
  held = workers.held_by(consumer)
  if held == 0 then
    workers.forget_consumer(consumer)
    egress.forget_idle()
    return {0, 0, settings.queue.shards, 0, now}
  end
end
local new = redis.call('ZADD', keys.LEASES, now + tonumber(ARGV[3]), consumer)
egress.ensure_groups()
workers.set_slots(consumer, slots)
if ARGV[4] ~= '' then redis.call('HSET', keys.STATE, 'suspects:' .. consumer, ARGV[4]) end
dispatch.fill()
return {new, held, settings.queue.shards, dispatch.more and 1 or 0, now}

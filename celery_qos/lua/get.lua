-- Deliver one task without waiting, to a consumer that brings a slot for it.
-- KEYS: namespace. ARGV: consumer, its slots with this one, lease in ms.
-- Returns {name, fields}, or nothing, or {} where the caller is to come again: it could not look at all that wait.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
local consumer, slots = ARGV[1], tonumber(ARGV[2])
egress.allow_when_full()
egress.ensure_groups()
workers.set_slots(consumer, slots)
dispatch.fill()
local lease_end = clock.now_ms() + tonumber(ARGV[3])
for stream = 0, settings.queue.shards - 1 do
  local read = redis.call('XREADGROUP', 'GROUP', keys.GROUP, consumer, 'COUNT', 1, 'STREAMS', keys.egress(stream), '>')
  if read then
    local entry = read[1][2][1]
    redis.call('ZADD', keys.LEASES, lease_end, consumer)
    return {egress.entry_name(stream, entry[1]), entry[2]}
  end
end
local more = dispatch.more
workers.set_slots(consumer, slots - 1)
if slots > 1 then
  -- Slots without a lease would never be taken back.
  redis.call('ZADD', keys.LEASES, 'NX', lease_end, consumer)
elseif workers.held_by(consumer) == 0 then
  workers.forget_consumer(consumer)
end
egress.forget_idle()
if more then return {} end
return nil

-- Deliver one task without waiting, to a consumer that brings a slot for it.
-- KEYS: namespace. ARGV: consumer, its slots with this one, lease in ms.
-- Returns {id, fields}, or nothing.
-- include keys, policy, dispatch, workers, time
local consumer, slots = ARGV[1], tonumber(ARGV[2])
allow_when_full()
ensure_group()
set_slots(consumer, slots)
dispatch()
local lease_end = now_ms() + tonumber(ARGV[3])
local read = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', EGRESS, '>')
if read then
  redis.call('ZADD', LEASES, lease_end, consumer)
  return read[1][2][1]
end
set_slots(consumer, slots - 1)
if slots > 1 then
  -- Slots without a lease would never be taken back.
  redis.call('ZADD', LEASES, 'NX', lease_end, consumer)
elseif pending(consumer) == 0 then
  forget_consumer(consumer)
end
forget_idle()
return nil

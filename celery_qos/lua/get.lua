-- Deliver one task without waiting, to a consumer that brings a slot for it.
-- KEYS: namespace. ARGV: consumer, its slots with this one, lease in ms.
-- Returns {id, fields}, or nothing.
-- include keys, policy, dispatch, workers, time
local consumer, slots = ARGV[1], tonumber(ARGV[2])
allow_when_full()
ensure_group()
set_slots(consumer, slots)
dispatch()
local read = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', EGRESS, '>')
if read then
  redis.call('ZADD', LEASES, now_ms() + tonumber(ARGV[3]), consumer)
  return read[1][2][1]
end
set_slots(consumer, slots - 1)
if slots == 1 and pending(consumer) == 0 then forget_consumer(consumer) end
forget_idle()
return nil

-- Register a consumer with its slots, or renew its lease. With no slots the lease holds only while tasks are unsettled.
-- KEYS: namespace. ARGV: consumer, slots, lease in ms.
-- Returns {1 where the consumer had no lease before, unsettled tasks}.
-- include keys, policy, dispatch, workers, time
local consumer, slots = ARGV[1], tonumber(ARGV[2])
local unsettled = 0
allow_when_full()
if slots == 0 then
  unsettled = pending(consumer)
  if unsettled == 0 then
    forget_consumer(consumer)
    forget_idle()
    return {0, 0}
  end
end
local new = redis.call('ZADD', LEASES, now_ms() + tonumber(ARGV[3]), consumer)
ensure_group()
set_slots(consumer, slots)
dispatch()
return {new, unsettled}

-- Deliver one task without waiting, to a consumer that brings a slot for it.
-- KEYS: namespace. ARGV: consumer, its slots with this one, lease in ms.
-- Returns {name, fields}, or nothing.
-- include keys, settings, fair, limits, dispatch, workers
load_settings()
local consumer, slots = ARGV[1], tonumber(ARGV[2])
allow_when_full()
ensure_groups()
set_slots(consumer, slots)
dispatch()
local lease_end = now_ms() + tonumber(ARGV[3])
for stream = 0, QUEUE.shards - 1 do
  local read = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', egress(stream), '>')
  if read then
    local entry = read[1][2][1]
    redis.call('ZADD', LEASES, lease_end, consumer)
    return {entry_name(stream, entry[1]), entry[2]}
  end
end
set_slots(consumer, slots - 1)
if slots > 1 then
  -- Slots without a lease would never be taken back.
  redis.call('ZADD', LEASES, 'NX', lease_end, consumer)
elseif held_by(consumer) == 0 then
  forget_consumer(consumer)
end
forget_idle()
return nil

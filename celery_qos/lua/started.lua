-- Tracked tasks were acknowledged when they started: their slots are free, but they are in flight until they end.
-- KEYS: namespace. ARGV: consumer, lease in ms for one that has none, then of each task: name of its egress entry,
-- sub-queue, tenant. Returns how many were there.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
local consumer, started = ARGV[1], 0
for i = 3, #ARGV, 3 do
  local stream, id = egress.place_of(ARGV[i])
  redis.call('XACK', keys.egress(stream), keys.GROUP, id)
  if redis.call('XDEL', keys.egress(stream), id) == 1 then
    redis.call('HSET', keys.running(consumer), ARGV[i], ARGV[i + 1] .. ':' .. ARGV[i + 2])
    started = started + 1
  end
end
if started > 0 then
  -- What runs without a lease would never be given up.
  redis.call('ZADD', keys.LEASES, 'NX', clock.now_ms() + tonumber(ARGV[2]), consumer)
  dispatch.fill()
end
return started

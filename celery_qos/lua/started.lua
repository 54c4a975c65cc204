-- Tracked tasks were acknowledged when they started: their slots are free, but they are in flight until they end.
-- KEYS: namespace. ARGV: consumer, lease in ms for one that has none, then of each task: name of its egress entry, sub-queue,
-- tenant. Returns how many were there.
-- include keys, settings, fair, limits, dispatch, workers
load_settings()
local consumer, started = ARGV[1], 0
for i = 3, #ARGV, 3 do
  local stream, id = place_of(ARGV[i])
  redis.call('XACK', egress(stream), GROUP, id)
  if redis.call('XDEL', egress(stream), id) == 1 then
    redis.call('HSET', running(consumer), ARGV[i], ARGV[i + 1] .. ':' .. ARGV[i + 2])
    started = started + 1
  end
end
if started > 0 then
  -- What runs without a lease would never be given up.
  redis.call('ZADD', LEASES, 'NX', now_ms() + tonumber(ARGV[2]), consumer)
  dispatch()
end
return started

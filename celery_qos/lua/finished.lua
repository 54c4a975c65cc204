-- Tracked tasks have ended, acknowledged when they started or now. Twice changes nothing.
-- KEYS: namespace. ARGV: consumer, then of each task: name of its egress entry, sub-queue, tenant, seconds that it was
-- taken to last, seconds that it took or ''. Returns how many were there.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
local consumer, finished = ARGV[1], 0
for i = 2, #ARGV, 5 do
  local stream, id = egress.place_of(ARGV[i])
  local ran = redis.call('HDEL', keys.running(consumer), ARGV[i]) == 1
  if not ran then
    redis.call('XACK', keys.egress(stream), keys.GROUP, id)
    ran = redis.call('XDEL', keys.egress(stream), id) == 1
  end
  if ran then
    limits.vacate(ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
    finished = finished + 1
  end
end
if finished > 0 then
  dispatch.fill()
  egress.forget_idle()
end
return finished

-- Remove finished tasks from egress and give their slots to the next ones. Settling twice changes nothing.
-- KEYS: namespace. ARGV: names of egress entries. Returns how many were there.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
local settled = 0
for stream, ids in pairs(workers.by_stream(ARGV)) do
  redis.call('XACK', keys.egress(stream), keys.GROUP, unpack(ids))
  settled = settled + redis.call('XDEL', keys.egress(stream), unpack(ids))
end
if settled > 0 then
  dispatch.fill()
  workers.forget_idle()
end
return settled

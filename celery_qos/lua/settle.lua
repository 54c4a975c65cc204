-- Remove finished tasks from egress and give their slots to the next ones. Settling twice changes nothing.
-- KEYS: namespace. ARGV: names of egress entries. Returns how many were there.
-- include keys, settings, egress
settings.load_settings()
local settled = 0
for stream, ids in pairs(egress.by_stream(ARGV)) do
  redis.call('XACK', keys.egress(stream), keys.GROUP, unpack(ids))
  settled = settled + redis.call('XDEL', keys.egress(stream), unpack(ids))
end
if settled == 0 or redis.call('EXISTS', keys.WAITING) == 0 then
  if settled > 0 then egress.forget_idle() end
  return settled
end
-- include fair, limits, dispatch
dispatch.fill()
egress.forget_idle()
return settled

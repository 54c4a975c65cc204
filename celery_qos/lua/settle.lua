-- Remove finished tasks from egress and give their slots to the next ones. Settling twice changes nothing.
-- KEYS: namespace. ARGV: names of egress entries. Returns how many were there.
-- include names
local state, settled, waits = redis.call('HMGET', keys.STATE, 'plain', 'slots'), nil, false
-- A late one may name another stream of egress than the only one that is left: that is an error, and changes nothing.
if state[1] and type(redis.pcall('XACK', keys.EGRESS, keys.GROUP, unpack(ARGV))) == 'number' then
  settled = redis.call('XDEL', keys.EGRESS, unpack(ARGV))
  if settled == 0 then return 0 end
  waits = redis.call('EXISTS', keys.WAITING) == 1
  if not waits and redis.call('EXISTS', keys.LEASES) == 1 then return settled end
end
-- include turns
if waits and state[1] == 'even' and turns.fill(state[2]) then return settled end
-- include settings
if waits and state[1] == 'optioned' and turns.fill(state[2], settings) then return settled end
-- include egress
settings.load_settings()
if not settled then
  settled = 0
  for stream, ids in pairs(egress.by_stream(ARGV)) do
    redis.call('XACK', keys.egress(stream), keys.GROUP, unpack(ids))
    settled = settled + redis.call('XDEL', keys.egress(stream), unpack(ids))
  end
end
if settled == 0 or redis.call('EXISTS', keys.WAITING) == 0 then
  if settled > 0 then egress.forget_idle() end
  return settled
end
-- include fair, limits, dispatch
dispatch.fill()
egress.forget_idle()
return settled

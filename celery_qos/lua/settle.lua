-- Remove finished tasks from egress and give their slots to the next ones. Settling twice changes nothing.
-- KEYS: namespace. ARGV: ids of egress entries. Returns how many were there.
-- include keys, policy, dispatch, workers
redis.call('XACK', EGRESS, GROUP, unpack(ARGV))
local settled = redis.call('XDEL', EGRESS, unpack(ARGV))
if settled > 0 then
  dispatch()
  forget_idle()
end
return settled

-- Put a task into its tenant's stream and dispatch.
-- KEYS: namespace. ARGV: tenant, priority (0 is served first), then the entry's fields and values.
-- Returns 1 where the task is in egress now, 0 where it waits.
-- include keys, policy, dispatch
local tenant, priority = ARGV[1], ARGV[2]
local fields = {unpack(ARGV, 3)}
local free = free_slots()

if free > 0 and redis.call('EXISTS', WAITING) == 0 then
  -- Nobody waits, so nobody is overtaken and no turn is owed: the task's own stream would be a detour.
  redis.call('XADD', EGRESS, '*', unpack(fields))
  return 1
end

redis.call('XADD', tenant_stream(tenant, priority), '*', unpack(fields))
redis.call('HINCRBY', STATE, 'waiting', 1)
if redis.call('HINCRBY', WAITING, tenant, 1) == 1 then policy_activate(tenant) end
if free > 0 then dispatch() end
return 0

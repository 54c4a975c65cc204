-- Put a task into its tenant's stream and dispatch.
-- KEYS: namespace. ARGV: tenant, priority (0 is served first), then the entry's fields and values.
-- Returns 1 where the task went straight to egress, 0 where it had to queue up.
-- include keys, policy, dispatch
local tenant, priority = ARGV[1], ARGV[2]
local fields = {unpack(ARGV, 3)}
local free, tenants = free_slots(), redis.call('HLEN', WAITING)

if free > 0 and tenants == 0 then
  -- Nobody waits, so nobody is overtaken and no turn is owed: the task's own stream would be a detour.
  redis.call('XADD', EGRESS, '*', unpack(fields))
  return 1
end

-- A key of another type raises before the task is written: its publisher is told that it was not.
policy_check()
redis.call('XADD', tenant_stream(tenant, priority), '*', unpack(fields))
redis.call('HINCRBY', STATE, 'waiting', 1)
if redis.call('HINCRBY', WAITING, tenant, 1) == 1 then policy_activate(tenant) end
if free > 0 then dispatch() end
return 0

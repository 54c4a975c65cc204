-- The safety net for what no event announces: leases that ended, finish tags that virtual time has passed.
-- KEYS: namespace. ARGV: lease in ms.
-- Returns {consumer, tasks delivered again, 1 where that was all, ...} for each consumer whose lease had ended.
-- include keys, policy, dispatch, workers, time
local now = now_ms()
allow_when_full()
local recovered = {}
for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 10)) do
  local moved, done = recover(consumer, 1)
  recovered[#recovered + 1] = consumer
  recovered[#recovered + 1] = moved
  recovered[#recovered + 1] = done and 1 or 0
end
-- A consumer that reads before it notices that its lease has ended holds tasks without a lease: grant it one to lose.
if redis.call('EXISTS', EGRESS) == 1 then
  ensure_group()
  for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', EGRESS, GROUP)) do
    if each[4] > 0 then redis.call('ZADD', LEASES, 'NX', now + tonumber(ARGV[1]), each[2]) end
  end
end
policy_sweep()
dispatch()
forget_idle()
return recovered

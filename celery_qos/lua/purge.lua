-- Delete tasks that nobody holds yet, some tenants at a time; the caller comes again until none are left.
-- KEYS: namespace. Returns {tasks deleted, 1 where that was all}.
-- include keys, policy, workers
local TENANTS = 100
local purged, done = 0, 1
-- Not HSCAN: from its start it passes over the buckets that the calls before emptied, and comes back with nothing.
local page = redis.call('HRANDFIELD', WAITING, TENANTS, 'WITHVALUES')
for i = 1, #page, 2 do
  local tenant = page[i]
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do
    local stream = tenant_stream(tenant, priority)
    purged = purged + stream_length(stream)
    redis.call('UNLINK', stream)
  end
  redis.call('HINCRBY', STATE, 'waiting', 0 - tonumber(page[i + 1]))
  redis.call('HDEL', WAITING, tenant)
  policy_remove(tenant)
end
if redis.call('EXISTS', WAITING) == 1 then
  done = 0
elseif redis.call('EXISTS', EGRESS) == 1 then
  ensure_group()
  -- Entries past the last delivered one are not delivered.
  for _, entry in ipairs(redis.call('XRANGE', EGRESS, '(' .. group().last_delivered, '+')) do
    purged = purged + redis.call('XDEL', EGRESS, entry[1])
  end
end
forget_idle()
return {purged, done}

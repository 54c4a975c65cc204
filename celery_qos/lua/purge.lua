-- Delete tasks that nobody holds yet, some tenants at a time; the caller comes again until none are left.
-- KEYS: namespace. Returns {tasks deleted, 1 where that was all}.
-- include keys, settings, fair, limits, dispatch, workers, work, emptied
settings.load_settings()
local TENANTS, ENTRIES = work.room(work.PURGE), 50
local purged, done, any = 0, 1, false
-- Not HSCAN: from its start it passes over the buckets that the calls before emptied, and comes back with nothing.
for _, id in ipairs(redis.call('HRANDFIELD', keys.WAITING, TENANTS)) do
  local count = emptied.tenant(id)
  if count then purged, any = purged + count, true end
end
-- Whether any of `ids` has tasks.
local function has_tasks(ids)
  for _, id in ipairs(ids) do
    if keys.split(id) and redis.call('EXISTS', unpack(keys.tenant_streams(id))) > 0 then return true end
  end
  return false
end

local function forget_nodes(ids)
  for _, id in ipairs(ids) do
    redis.call('DEL', keys.ready(id), keys.finish(id), keys.owing(id))
    redis.call('HDEL', keys.STATE, 'vtime:' .. id, 'newest:' .. id)
  end
end

if not any then
  local ids = redis.call('HKEYS', keys.WAITING)
  if not has_tasks(ids) then
    -- Only accounts of what has no streams: of nodes with nothing inside, or of streams that were deleted by hand.
    forget_nodes(ids)
    forget_nodes({settings.queue.top})
    keys.forget_moving()
    redis.call('DEL', keys.WAITING, keys.PARKED, keys.LENDABLE)
    redis.call('HDEL', keys.STATE, 'waiting')
  end
end
if redis.call('EXISTS', keys.WAITING) == 1 then
  done = 0
else
  purged = purged + redis.call('ZCARD', keys.DELAYED)
  redis.call('UNLINK', keys.DELAYED, keys.DELAYED_TASKS, keys.DISCARDED)
  for stream, each in pairs(egress.groups()) do
    -- Entries past the last delivered one are not delivered.
    local entries = redis.call('XRANGE', keys.egress(stream), '(' .. each.last_delivered, '+', 'COUNT', ENTRIES)
    if #entries == ENTRIES then done = 0 end
    for _, entry in ipairs(entries) do
      purged = purged + redis.call('XDEL', keys.egress(stream), entry[1])
      limits.vacate_entry(entry[2])
    end
  end
end
egress.forget_idle()
return {purged, done}

-- Delete tasks that nobody holds yet, some tenants at a time; the caller comes again until none are left.
-- KEYS: namespace. Returns {tasks deleted, 1 where that was all}.
-- include keys, settings, fair, limits, dispatch, workers
load_settings()
free_slots()
local TENANTS = 100
local purged, done, emptied = 0, 1, 0
-- Not HSCAN: from its start it passes over the buckets that the calls before emptied, and comes back with nothing.
local page = redis.call('HRANDFIELD', WAITING, TENANTS)
for _, id in ipairs(page) do
  local sub, path = split(id)
  local count, streams = 0, {}
  if path then
    for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do
      streams[#streams + 1] = tenant_stream(id, priority)
      count = count + stream_length(streams[#streams])
    end
  end
  if path and redis.call('UNLINK', unpack(streams)) > 0 then
    purged = purged + count
    emptied = emptied + 1
    local ids = ids_of(sub, path)
    discount(ids, tonumber(redis.call('HGET', WAITING, id) or 0))
    leave(ids, #ids, {})
    for _, each in ipairs(ids) do
      if redis.call('HEXISTS', WAITING, each) == 0 then
        redis.call('ZREM', PARKED, each)
        redis.call('ZREM', LENDABLE, each)
      end
    end
  end
end
-- Only accounts of what has no streams: of nodes with nothing inside, or of streams that were deleted by hand.
if emptied == 0 and #page < TENANTS then
  for _, id in ipairs(page) do redis.call('DEL', ready(id), finish(id), owing(id)) end
  redis.call('DEL', WAITING, PARKED, LENDABLE, ready(QUEUE.top), finish(QUEUE.top), owing(QUEUE.top))
  redis.call('HDEL', STATE, 'waiting', 'vtime:' .. QUEUE.top, 'newest:' .. QUEUE.top)
end
if redis.call('EXISTS', WAITING) == 1 then
  done = 0
else
  for stream, each in pairs(groups()) do
    -- Entries past the last delivered one are not delivered.
    for _, entry in ipairs(redis.call('XRANGE', egress(stream), '(' .. each.last_delivered, '+')) do
      purged = purged + redis.call('XDEL', egress(stream), entry[1])
      vacate_entry(entry[2])
    end
  end
end
forget_idle()
return {purged, done}

-- Who works on the queue: slots, and the way back into egress for what a worker did not settle.
-- include keys, settings, fair, limits
local workers = {}

-- Entries handed back per call, so that a script stays short; the caller comes again for the rest.
workers.BATCH = 100

-- Where memory is full, Redis refuses a script whose first write may take more. This write takes none, so that leases are
-- renewed and tasks delivered: only that makes memory free again.
function workers.allow_when_full()
  redis.call('HDEL', keys.STATE, '')
end

-- An entry's id, as others know it, names the stream of egress unless that is the first.
function workers.entry_name(stream, id)
  return stream == 0 and id or stream .. ':' .. id
end

-- The stream of egress and the id in it.
function workers.place_of(name)
  local stream, id = string.match(name, '^(%d+):(.*)$')
  return tonumber(stream or 0), id or name
end

-- The ids of `names` in each stream of egress.
function workers.by_stream(names)
  local found = {}
  for _, name in ipairs(names) do
    local stream, id = workers.place_of(name)
    found[stream] = found[stream] or {}
    table.insert(found[stream], id)
  end
  return found
end

-- XINFO's row of the group on a stream of egress, or nil.
function workers.group(stream)
  if redis.call('EXISTS', keys.egress(stream)) == 0 then return nil end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', keys.egress(stream))) do
    if row[2] == keys.GROUP then return {pending = row[6], last_delivered = row[8]} end
  end
end

-- The streams of egress that are there, each with its group.
function workers.groups()
  local found = {}
  for stream = 0, settings.queue.shards - 1 do found[stream] = workers.group(stream) end
  return found
end

-- An idle queue has no egress. A new one goes on with the ids of the old: a late settle must not hit another task.
function workers.ensure_groups()
  for stream = 0, settings.queue.shards - 1 do
    if not workers.group(stream) then
      local new = redis.call('EXISTS', keys.egress(stream)) == 0
      redis.call('XGROUP', 'CREATE', keys.egress(stream), keys.GROUP, '0', 'MKSTREAM')
      local last = new and redis.call('HGET', keys.SETTINGS, 'last:' .. stream)
      if last then redis.call('XSETID', keys.egress(stream), last) end
    end
  end
end

-- The total is computed anew from its parts, so it cannot drift.
function workers.set_slots(consumer, slots)
  if slots > 0 then
    redis.call('HSET', keys.SLOTS, consumer, slots)
  else
    redis.call('HDEL', keys.SLOTS, consumer)
  end
  local total = 0
  for _, each in ipairs(redis.call('HVALS', keys.SLOTS)) do total = total + tonumber(each) end
  redis.call('HSET', keys.STATE, 'slots', total)
end

-- Put a delivered entry at the end of its stream as a new, redelivered one. `counted`: 1 where the delivery failed.
-- Nothing happens where the entry was settled before.
function workers.redeliver(stream, id, counted)
  local key = keys.egress(stream)
  local entry = redis.call('XRANGE', key, id, id)[1]
  if redis.call('XACK', key, keys.GROUP, id) == 0 or not entry then return 0 end
  local fields, deliveries, enqueued = {}, 0, false
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'deliveries' then
      deliveries = tonumber(value) or 0
    elseif name ~= 'redelivered' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
      enqueued = enqueued or name == 'enqueued'
    end
  end
  if not enqueued then
    fields[#fields + 1] = 'enqueued'
    fields[#fields + 1] = id
  end
  redis.call('XADD', key, '*', 'redelivered', 1, 'deliveries', deliveries + counted, unpack(fields))
  redis.call('XDEL', key, id)
  return 1
end

-- How many tasks `consumer` has: unsettled, or acknowledged and still running where that is tracked.
function workers.held_by(consumer)
  local count = redis.call('HLEN', keys.running(consumer))
  for stream in pairs(workers.groups()) do
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', keys.egress(stream), keys.GROUP)) do
      if each[2] == consumer then count = count + each[4] end
    end
  end
  return count
end

function workers.forget_consumer(consumer)
  workers.set_slots(consumer, 0)
  redis.call('ZREM', keys.LEASES, consumer)
  -- Deleting a consumer drops its pending entries, so it must have none.
  for stream in pairs(workers.groups()) do redis.call('XGROUP', 'DELCONSUMER', keys.egress(stream), keys.GROUP, consumer) end
end

-- Take the slots of a consumer that is gone, deliver its tasks again, in their old order, and give up the places in flight of
-- those that it ran. Returns how many are delivered again, and whether that was all.
function workers.recover(consumer, counted)
  workers.set_slots(consumer, 0)
  local moved, done = 0, true
  for stream in pairs(workers.groups()) do
    local entries = redis.call('XPENDING', keys.egress(stream), keys.GROUP, '-', '+', workers.BATCH, consumer)
    for _, entry in ipairs(entries) do moved = moved + workers.redeliver(stream, entry[1], counted) end
    done = done and #entries < workers.BATCH
  end
  local ran, given_up = redis.call('HRANDFIELD', keys.running(consumer), workers.BATCH, 'WITHVALUES'), {}
  for i = 1, #ran, 2 do
    redis.call('HDEL', keys.running(consumer), ran[i])
    given_up[#given_up + 1] = ran[i + 1]
  end
  -- Who is woken first is not left to the order of a hash.
  table.sort(given_up)
  for _, id in ipairs(given_up) do limits.vacate(keys.split(id)) end
  done = done and #ran < 2 * workers.BATCH
  if done then workers.forget_consumer(consumer) end
  return moved, done
end

-- A queue without workers and tasks keeps its settings only.
function workers.forget_idle()
  if redis.call('EXISTS', keys.LEASES, keys.WAITING) > 0 then return end
  for stream = 0, settings.queue.shards - 1 do
    if redis.call('XLEN', keys.egress(stream)) > 0 then return end
  end
  for stream = 0, settings.queue.shards - 1 do
    if redis.call('EXISTS', keys.egress(stream), keys.SETTINGS) == 2 then
      local info = redis.call('XINFO', 'STREAM', keys.egress(stream))
      for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then redis.call('HSET', keys.SETTINGS, 'last:' .. stream, info[i + 1]) end
      end
    end
    redis.call('DEL', keys.egress(stream))
  end
  redis.call('DEL', keys.STATE, keys.SLOTS, keys.PARKED, keys.LENDABLE, keys.IN_FLIGHT, keys.AVERAGES, keys.SWEEPERS, keys.BELL, keys.ready(settings.queue.top), keys.finish(settings.queue.top),
    keys.owing(settings.queue.top))
  if settings.queue.former then redis.call('HDEL', keys.SETTINGS, 'former') end
  if settings.queue.shards > settings.queue.streams then redis.call('HSET', keys.SETTINGS, 'shards', settings.queue.streams) end
end

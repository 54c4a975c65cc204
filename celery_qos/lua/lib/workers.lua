-- Who works on the queue: slots, and the way back into egress for what a worker did not settle.
-- include keys, settings, fair, limits

-- Entries handed back per call, so that a script stays short; the caller comes again for the rest.
local BATCH = 100

-- Where memory is full, Redis refuses a script whose first write may take more. This write takes none, so that leases are
-- renewed and tasks delivered: only that makes memory free again.
local function allow_when_full()
  redis.call('HDEL', STATE, '')
end

-- An entry's id, as others know it, names the stream of egress unless that is the first.
local function entry_name(stream, id)
  return stream == 0 and id or stream .. ':' .. id
end

-- The stream of egress and the id in it.
local function place_of(name)
  local stream, id = string.match(name, '^(%d+):(.*)$')
  return tonumber(stream or 0), id or name
end

-- The ids of `names` in each stream of egress.
local function by_stream(names)
  local found = {}
  for _, name in ipairs(names) do
    local stream, id = place_of(name)
    found[stream] = found[stream] or {}
    table.insert(found[stream], id)
  end
  return found
end

-- XINFO's row of the group on a stream of egress, or nil.
local function group(stream)
  if redis.call('EXISTS', egress(stream)) == 0 then return nil end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', egress(stream))) do
    if row[2] == GROUP then return {pending = row[6], last_delivered = row[8]} end
  end
end

-- The streams of egress that are there, each with its group.
local function groups()
  local found = {}
  for stream = 0, QUEUE.shards - 1 do found[stream] = group(stream) end
  return found
end

-- An idle queue has no egress. A new one goes on with the ids of the old: a late settle must not hit another task.
local function ensure_groups()
  for stream = 0, QUEUE.shards - 1 do
    if not group(stream) then
      local new = redis.call('EXISTS', egress(stream)) == 0
      redis.call('XGROUP', 'CREATE', egress(stream), GROUP, '0', 'MKSTREAM')
      local last = new and redis.call('HGET', SETTINGS, 'last:' .. stream)
      if last then redis.call('XSETID', egress(stream), last) end
    end
  end
end

-- The total is computed anew from its parts, so it cannot drift.
local function set_slots(consumer, slots)
  if slots > 0 then
    redis.call('HSET', SLOTS, consumer, slots)
  else
    redis.call('HDEL', SLOTS, consumer)
  end
  local total = 0
  for _, each in ipairs(redis.call('HVALS', SLOTS)) do total = total + tonumber(each) end
  redis.call('HSET', STATE, 'slots', total)
end

-- Put a delivered entry at the end of its stream as a new, redelivered one. `counted`: 1 where the delivery failed.
-- Nothing happens where the entry was settled before.
local function redeliver(stream, id, counted)
  local key = egress(stream)
  local entry = redis.call('XRANGE', key, id, id)[1]
  if redis.call('XACK', key, GROUP, id) == 0 or not entry then return 0 end
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
local function held_by(consumer)
  local count = redis.call('HLEN', running(consumer))
  for stream in pairs(groups()) do
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', egress(stream), GROUP)) do
      if each[2] == consumer then count = count + each[4] end
    end
  end
  return count
end

local function forget_consumer(consumer)
  set_slots(consumer, 0)
  redis.call('ZREM', LEASES, consumer)
  -- Deleting a consumer drops its pending entries, so it must have none.
  for stream in pairs(groups()) do redis.call('XGROUP', 'DELCONSUMER', egress(stream), GROUP, consumer) end
end

-- Take the slots of a consumer that is gone, deliver its tasks again, in their old order, and give up the places in flight of
-- those that it ran. Returns how many are delivered again, and whether that was all.
local function recover(consumer, counted)
  set_slots(consumer, 0)
  local moved, done = 0, true
  for stream in pairs(groups()) do
    local entries = redis.call('XPENDING', egress(stream), GROUP, '-', '+', BATCH, consumer)
    for _, entry in ipairs(entries) do moved = moved + redeliver(stream, entry[1], counted) end
    done = done and #entries < BATCH
  end
  local ran = redis.call('HRANDFIELD', running(consumer), BATCH, 'WITHVALUES')
  for i = 1, #ran, 2 do
    redis.call('HDEL', running(consumer), ran[i])
    vacate(split(ran[i + 1]))
  end
  done = done and #ran < 2 * BATCH
  if done then forget_consumer(consumer) end
  return moved, done
end

-- A queue without workers and tasks keeps its settings only.
local function forget_idle()
  if redis.call('EXISTS', LEASES, WAITING) > 0 then return end
  for stream = 0, QUEUE.shards - 1 do
    if redis.call('XLEN', egress(stream)) > 0 then return end
  end
  for stream = 0, QUEUE.shards - 1 do
    if redis.call('EXISTS', egress(stream), SETTINGS) == 2 then
      local info = redis.call('XINFO', 'STREAM', egress(stream))
      for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then redis.call('HSET', SETTINGS, 'last:' .. stream, info[i + 1]) end
      end
    end
    redis.call('DEL', egress(stream))
  end
  redis.call('DEL', STATE, SLOTS, PARKED, LENDABLE, IN_FLIGHT, AVERAGES, SWEEPERS, BELL, ready(QUEUE.top), finish(QUEUE.top),
    owing(QUEUE.top))
  if QUEUE.shards > QUEUE.streams then redis.call('HSET', SETTINGS, 'shards', QUEUE.streams) end
end

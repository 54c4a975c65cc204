-- Who works on the queue: slots, and the way back into egress for what a worker did not settle.
-- include keys

-- Entries handed back per call, so that a script stays short; the caller comes again for the rest.
local BATCH = 100

-- Where memory is full, Redis refuses a script whose first write may take more. This write takes none, so that leases are
-- renewed and tasks delivered: only that makes memory free again.
local function allow_when_full()
  redis.call('HDEL', STATE, '')
end

-- XINFO's row of the group on egress, or nil.
local function group()
  if redis.call('EXISTS', EGRESS) == 0 then return nil end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', EGRESS)) do
    if row[2] == GROUP then return {pending = row[6], last_delivered = row[8]} end
  end
end

-- An idle queue has no egress. A new one goes on with the ids of the old: a late settle must not hit another task.
local function ensure_group()
  if group() then return end
  local new = redis.call('EXISTS', EGRESS) == 0
  redis.call('XGROUP', 'CREATE', EGRESS, GROUP, '0', 'MKSTREAM')
  local last = new and redis.call('HGET', SETTINGS, 'last')
  if last then redis.call('XSETID', EGRESS, last) end
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

-- Put the delivered entry `id` at the end of egress as a new, redelivered one. `counted`: 1 where the delivery failed.
-- Nothing happens where the entry was settled before.
local function redeliver(id, counted)
  local entry = redis.call('XRANGE', EGRESS, id, id)[1]
  if redis.call('XACK', EGRESS, GROUP, id) == 0 or not entry then return 0 end
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
  redis.call('XADD', EGRESS, '*', 'redelivered', 1, 'deliveries', deliveries + counted, unpack(fields))
  redis.call('XDEL', EGRESS, id)
  return 1
end

-- How many entries `consumer` holds unsettled.
local function pending(consumer)
  if not group() then return 0 end
  for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', EGRESS, GROUP)) do
    if each[2] == consumer then return each[4] end
  end
  return 0
end

local function forget_consumer(consumer)
  set_slots(consumer, 0)
  redis.call('ZREM', LEASES, consumer)
  -- Deleting a consumer drops its pending entries, so it must have none.
  if group() then redis.call('XGROUP', 'DELCONSUMER', EGRESS, GROUP, consumer) end
end

-- Take the slots of a consumer that is gone and deliver its tasks again, in their old order.
-- Returns how many, and whether that was all.
local function recover(consumer, counted)
  set_slots(consumer, 0)
  local entries = group() and redis.call('XPENDING', EGRESS, GROUP, '-', '+', BATCH, consumer) or {}
  local moved = 0
  for _, entry in ipairs(entries) do moved = moved + redeliver(entry[1], counted) end
  local done = #entries < BATCH
  if done then forget_consumer(consumer) end
  return moved, done
end

-- A queue without workers and tasks keeps its settings only.
local function forget_idle()
  if redis.call('EXISTS', LEASES, WAITING) == 0 and redis.call('XLEN', EGRESS) == 0 then
    if redis.call('EXISTS', EGRESS, SETTINGS) == 2 then
      local info = redis.call('XINFO', 'STREAM', EGRESS)
      for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then redis.call('HSET', SETTINGS, 'last', info[i + 1]) end
      end
    end
    redis.call('DEL', EGRESS, STATE, SLOTS, READY, FINISH)
  end
end

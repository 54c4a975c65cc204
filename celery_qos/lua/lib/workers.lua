-- Who works on the queue: slots, and the way back into egress for what a worker did not settle.
-- include keys, settings, egress, fair, limits, dead, work, totals
local workers = {}

-- Entries handed back per call, and tasks given up, so that a script stays short; the caller comes again for the rest.
workers.BATCH = 30

-- The total is computed anew from its parts, so it cannot drift.
function workers.set_slots(consumer, slots)
  if slots > 0 then
    redis.call('HSET', keys.SLOTS, consumer, slots)
  else
    redis.call('HDEL', keys.SLOTS, consumer)
  end
  local total = 0
  for _, each in ipairs(redis.call('HVALS', keys.SLOTS)) do total = total + keys.whole(each, 0, 0, 2 ^ 40) end
  redis.call('HSET', keys.STATE, 'slots', total)
end

-- After how many deliveries that failed a task is a dead letter.
function workers.most_deliveries()
  workers.most = workers.most or keys.number(redis.call('HGET', keys.SETTINGS, 'max_deliveries'), 5, 1, 2 ^ 40)
  return workers.most
end

-- Put a delivered entry at the end of its stream as a new, redelivered one, or among the dead letters where it was
-- delivered in vain too often. `counted`: 1 where the delivery failed. Nothing happens where the entry was settled
-- before. Returns how many are delivered again, and how many died.
function workers.redeliver(stream, id, counted)
  local key = keys.egress(stream)
  local entry = redis.call('XRANGE', key, id, id)[1]
  local fields, deliveries, enqueued = {}, 0, false
  for i = 1, entry and #entry[2] or 0, 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'deliveries' then
      deliveries = keys.whole(value, 0, 0, 2 ^ 40)
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
  deliveries = deliveries + counted
  local reason
  if #fields > keys.MOST_VALUES then
    reason = 'malformed: ' .. #fields / 2 .. ' fields'
  elseif counted > 0 and deliveries >= workers.most_deliveries() then
    reason = 'delivered ' .. deliveries .. ' times'
  end
  if reason and entry and #redis.pcall('XPENDING', key, keys.GROUP, id, id, 1) > 0 then
    table.insert(fields, 1, deliveries)
    table.insert(fields, 1, 'deliveries')
    dead.add(reason, fields)
    redis.call('XACK', key, keys.GROUP, id)
    redis.call('XDEL', key, id)
    limits.vacate_entry(fields)
    return 0, 1
  end
  if redis.call('XACK', key, keys.GROUP, id) == 0 or not entry or reason then return 0, 0 end
  redis.call('XDEL', key, id)
  redis.call('XADD', key, '*', 'redelivered', 1, 'deliveries', deliveries, unpack(fields))
  totals.count('redelivered', totals.sub_of(fields))
  return 1, 0
end

-- How many tasks `consumer` has: unsettled, or acknowledged and still running where that is tracked.
function workers.held_by(consumer)
  local count = redis.call('HLEN', keys.running(consumer))
  for stream in pairs(egress.groups()) do
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', keys.egress(stream), keys.GROUP)) do
      if each[2] == consumer then count = count + each[4] end
    end
  end
  return count
end

function workers.forget_consumer(consumer)
  workers.set_slots(consumer, 0)
  redis.call('HDEL', keys.STATE, 'suspects:' .. consumer)
  redis.call('ZREM', keys.LEASES, consumer)
  -- Deleting a consumer drops its pending entries, so it must have none.
  for stream in pairs(egress.groups()) do
    redis.call('XGROUP', 'DELCONSUMER', keys.egress(stream), keys.GROUP, consumer)
  end
end

-- A consumer that takes tasks elsewhere holds what it holds, and brings a slot for each, until its lease of so many ms
-- ends. None of its deliveries counts as failed.
function workers.guard(consumer, lease)
  local held = workers.held_by(consumer)
  if held == 0 then return workers.forget_consumer(consumer) end
  workers.set_slots(consumer, held)
  redis.call('ZADD', keys.LEASES, clock.now_ms() + lease, consumer)
  redis.call('HSET', keys.STATE, 'suspects:' .. consumer, 0)
end

-- What the consumer has not settled, the oldest first; `most` of each stream.
function workers.oldest_of(consumer, most)
  local found = {}
  for stream in pairs(egress.groups()) do
    for _, row in ipairs(redis.call('XPENDING', keys.egress(stream), keys.GROUP, '-', '+', most, consumer)) do
      local ms, number = string.match(row[1], '^(%d+)-(%d+)$')
      found[#found + 1] = {stream = stream, id = row[1], ms = tonumber(ms), number = tonumber(number)}
    end
  end
  table.sort(found, function(one, other)
    if one.ms ~= other.ms then return one.ms < other.ms end
    if one.number ~= other.number then return one.number < other.number end
    return one.stream < other.stream
  end)
  return found
end

-- Take the slots of a consumer that is gone, deliver its tasks again, in their old order, and give up the places in
-- flight of those that it ran. Where the deliveries count as failed, they do for as many of the oldest as it may have
-- been at work on: what only waited in it is not to blame. As much as one call may: it is to be called until that
-- was all. Returns how many are delivered again, whether that was all, and how many died.
function workers.recover(consumer, counted)
  workers.set_slots(consumer, 0)
  local moved, done, died = 0, true, 0
  local suspects = keys.number(redis.call('HGET', keys.STATE, 'suspects:' .. consumer), math.huge, 0, math.huge)
  local most = math.min(workers.BATCH, work.room(work.REDELIVER))
  if most == 0 then return 0, false, 0 end
  local entries = workers.oldest_of(consumer, most)
  for i = 1, math.min(#entries, most) do
    local back, buried = workers.redeliver(entries[i].stream, entries[i].id, i <= suspects and counted or 0)
    moved, died = moved + back, died + buried
  end
  done = #entries < most
  work.take(math.min(#entries, most) * work.REDELIVER)
  -- What is left is for the next call.
  if not done and suspects < math.huge then
    redis.call('HSET', keys.STATE, 'suspects:' .. consumer, math.max(0, suspects - most))
  end
  most = math.min(workers.BATCH, work.room(work.VACATE))
  if most == 0 then return moved, false, died end
  local ran, given_up = redis.call('HRANDFIELD', keys.running(consumer), most, 'WITHVALUES'), {}
  for i = 1, #ran, 2 do
    redis.call('HDEL', keys.running(consumer), ran[i])
    given_up[#given_up + 1] = ran[i + 1]
  end
  -- Who is woken first is not left to the order of a hash.
  table.sort(given_up)
  for _, id in ipairs(given_up) do limits.vacate(keys.split(id)) end
  work.take(#given_up * work.VACATE)
  done = done and #ran < 2 * most
  if done then
    workers.forget_consumer(consumer)
    if counted > 0 then totals.count('recovered') end
  end
  return moved, done, died
end

-- The streams that workers read, and the room in them.
-- include keys, settings
local egress = {}

-- Of each stream.
egress.lengths = {}

-- How many slots are free.
function egress.free_slots()
  local state = redis.call('HMGET', keys.STATE, 'slots', 'nested')
  -- Nearly every script that asks for the one needs the other.
  settings.nested = state[2]
  local free = keys.whole(state[1], 0, 0, 2 ^ 40)
  if settings.queue.capacity then free = math.min(free, settings.queue.capacity) end
  for stream = 0, settings.queue.shards - 1 do
    egress.lengths[stream] = redis.call('XLEN', keys.egress(stream))
    free = free - egress.lengths[stream]
  end
  return free
end

-- Append an entry to the shortest stream.
function egress.append(fields)
  local shortest = 0
  for stream = 1, settings.queue.streams - 1 do
    if egress.lengths[stream] < egress.lengths[shortest] then shortest = stream end
  end
  egress.lengths[shortest] = egress.lengths[shortest] + 1
  redis.call('XADD', keys.egress(shortest), '*', unpack(fields))
end

-- An entry's id, as others know it, names the stream of egress unless that is the first.
function egress.entry_name(stream, id)
  return stream == 0 and id or stream .. ':' .. id
end

-- The stream of egress and the id in it.
function egress.place_of(name)
  local stream, id = string.match(name, '^(%d+):(.*)$')
  return tonumber(stream or 0), id or name
end

-- The ids of `names` in each stream of egress.
function egress.by_stream(names)
  local found = {}
  for _, name in ipairs(names) do
    local stream, id = egress.place_of(name)
    found[stream] = found[stream] or {}
    table.insert(found[stream], id)
  end
  return found
end

-- XINFO's row of the group on a stream of egress, or nil.
function egress.group(stream)
  if redis.call('EXISTS', keys.egress(stream)) == 0 then return nil end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', keys.egress(stream))) do
    if row[2] == keys.GROUP then return {pending = row[6], last_delivered = row[8]} end
  end
end

-- The streams of egress that are there, each with its group.
function egress.groups()
  local found = {}
  for stream = 0, settings.queue.shards - 1 do found[stream] = egress.group(stream) end
  return found
end

-- An idle queue has no egress. A new one goes on with the ids of the old: a late settle must not hit another task.
function egress.ensure_groups()
  for stream = 0, settings.queue.shards - 1 do
    if not egress.group(stream) then
      local new = redis.call('EXISTS', keys.egress(stream)) == 0
      redis.call('XGROUP', 'CREATE', keys.egress(stream), keys.GROUP, '0', 'MKSTREAM')
      local last = new and redis.call('HGET', keys.SETTINGS, 'last:' .. stream)
      if last then redis.pcall('XSETID', keys.egress(stream), last) end
    end
  end
end

-- Where memory is full, Redis refuses a script whose first write may take more. This write takes none, so that leases
-- are renewed and tasks delivered: only that makes memory free again.
function egress.allow_when_full()
  redis.call('HDEL', keys.STATE, '')
end

-- A queue without workers and tasks keeps its settings only.
function egress.forget_idle()
  if redis.call('EXISTS', keys.LEASES, keys.WAITING, keys.DELAYED) > 0 then return end
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
  local top = settings.queue.top
  keys.forget_moving()
  redis.call('DEL', keys.STATE, keys.SLOTS, keys.PARKED, keys.LENDABLE, keys.IN_FLIGHT, keys.AVERAGES, keys.SWEEPERS,
    keys.BELL, keys.ready(top), keys.finish(top), keys.owing(top))
  if settings.queue.former then redis.call('HDEL', keys.SETTINGS, 'former') end
  if settings.queue.shards > settings.queue.streams then
    redis.call('HSET', keys.SETTINGS, 'shards', settings.queue.streams)
  end
end

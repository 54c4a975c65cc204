-- Dispatch: move tasks from tenant streams to egress while slots are free.
-- include keys, settings, egress, fair, limits, discarded, dead, bell, work
local dispatch = {}

-- Expired tasks that this call removed.
dispatch.expired = 0
-- This call did as much as one may, and left free slots to tasks that wait: the sweep goes on, or the caller.
dispatch.more = false

-- ids[i] leaves the ready set, and so do those above it that are left without any.
function dispatch.leave(ids, i, tags)
  if fair.take_out(settings.node_of(ids, i), ids[i], tags[i]) and i > 1 then dispatch.leave(ids, i - 1, tags) end
end

-- `count` tasks of the last of `ids` are gone from its streams. Returns how many it has left.
function dispatch.discount(ids, count)
  keys.add(keys.STATE, 'waiting', 0 - count)
  local left
  for _, id in ipairs(ids) do
    -- Not -count: of 0 that is -0, which HINCRBY refuses.
    left = keys.add(keys.WAITING, id, 0 - count)
    if left <= 0 then redis.call('HDEL', keys.WAITING, id) end
  end
  return left
end

-- The tenant's streams were deleted by hand: mend the accounts that still count their tasks.
function dispatch.forget(ids, tags)
  dispatch.discount(ids, keys.whole(redis.call('HGET', keys.WAITING, ids[#ids]), 0, 0, 2 ^ 40))
  dispatch.leave(ids, #ids, tags)
end

-- Whether the user may read tasks, without which none can be moved. Redis before 7 tells by refusing it.
function dispatch.is_allowed()
  local any = keys.egress(0)
  if redis.acl_check_cmd then return redis.acl_check_cmd('XRANGE', any, '-', '+') end
  return not redis.pcall('XRANGE', any, '+', '-').err
end

-- The tenant's first task: its stream and its entry, or nil.
function dispatch.head(id)
  for priority = keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY do
    local stream = keys.tenant_stream(id, priority)
    -- A key that is no stream holds no task: an error here would stop every tenant.
    local found = redis.pcall('XRANGE', stream, '-', '+', 'COUNT', 1)
    -- Any other refusal says nothing of what the stream holds.
    if found.err and not string.find(found.err, 'WRONGTYPE', 1, true) then error(found.err) end
    if found[1] then return stream, found[1] end
  end
end

-- Remove an entry from its tenant's stream. Returns how many the stream has left.
function dispatch.remove(stream, entry_id)
  local left = redis.call('XLEN', stream) - 1
  if left == 0 then
    -- XDEL of the last entry would leave an empty stream behind.
    redis.call('DEL', stream)
  else
    redis.call('XDEL', stream, entry_id)
  end
  return left
end

-- As `head`, of the tenant's tasks that have not expired. Those that have are removed, and what is none of ours: they
-- take no slot, and no turn.
function dispatch.live_head(ids)
  while not work.is_over() do
    local stream, entry = dispatch.head(ids[#ids])
    if stream and #entry[2] > keys.MOST_VALUES then
      dead.add('malformed: ' .. #entry[2] / 2 .. ' fields', entry[2])
      bell.ring()
    elseif stream and discarded.is_expired(entry[2]) then
      discarded.add('expired', entry[2])
    else
      return stream, entry
    end
    dispatch.expired = dispatch.expired + 1
    work.take(work.EXPIRE)
    dispatch.remove(stream, entry[1])
    dispatch.discount(ids, 1)
  end
end

-- Move the tenant's first task to egress. Returns how many it has left and the seconds that the task is taken to last,
-- or nil where its streams hold none, or more have expired than one call removes.
function dispatch.move(ids)
  local id = ids[#ids]
  local stream, entry = dispatch.live_head(ids)
  if not stream then return nil end
  local fields, seconds = entry[2], limits.occupy(ids)
  fields[#fields + 1] = 'enqueued'
  fields[#fields + 1] = entry[1]
  if seconds then
    fields[#fields + 1] = 'tracked'
    fields[#fields + 1] = string.format('%.6f', seconds)
  end
  egress.append(fields)
  local rest = dispatch.remove(stream, entry[1])
  local left = dispatch.discount(ids, 1)
  if left < rest then
    -- The account was deleted or changed by hand: without it, some would be left behind for good.
    local count = 0
    for _, each in ipairs(keys.tenant_streams(id)) do count = count + keys.stream_length(each) end
    for _, each in ipairs(ids) do keys.add(keys.WAITING, each, count - math.max(left, 0)) end
    left = count
  end
  return left, seconds
end

-- From ids[#ids], or from the top of the tree, down to the tenant whose turn it is. Appends to `ids`, and their start
-- tags to `tags`. Who is blocked is parked on the way, as many as one call may. Returns whether there is a tenant.
function dispatch.descend(ids, tags)
  local from = #ids
  while true do
    local node = ids[#ids] or settings.queue.top
    local id, start = fair.first(node)
    if not id then
      if #ids == from then return false end
      -- Its ready set was deleted by hand.
      dispatch.leave(ids, #ids, tags)
      ids[#ids], tags[#ids] = nil, nil
    elseif id == keys.ROOT or node ~= keys.ROOT and #id <= #node then
      -- It was added by hand, is inside nothing, and would be come upon again and again.
      redis.call('ZREM', keys.ready(node), id)
    else
      ids[#ids + 1], tags[#ids + 1] = id, start
      local due = limits.blocked(id)
      if due then
        dispatch.leave(ids, #ids, tags)
        limits.park(id, due)
        while #ids > from do ids[#ids], tags[#ids] = nil, nil end
        work.take(work.PARK)
        if work.is_over() then return false end
      elseif keys.split(id) and not (settings.is_nested() and redis.call('EXISTS', keys.ready(id)) == 1) then
        return true
      end
    end
  end
end

-- A task of the last of `ids` was dispatched: those below ids[from] pay for it. Those with nothing left to serve leave.
function dispatch.pay(ids, tags, from, left, seconds)
  for i = #ids, from, -1 do
    local node, id = settings.node_of(ids, i), ids[i]
    local tag = fair.charge(node, id, tags[i], seconds)
    if i == #ids and left > 0 or i < #ids and redis.call('EXISTS', keys.ready(id)) == 1 then
      redis.call('ZADD', keys.ready(node), tag, id)
    else
      fair.take_out(node, id, tag)
    end
  end
end

-- How many who cannot borrow, for a limit of what they are inside, are looked at before a slot stays idle.
dispatch.MOST_HELD_BACK = 50

-- Whether a limit of what is above the last of `ids` keeps it from borrowing.
function dispatch.held_back(ids)
  for i = 1, #ids - 1 do
    if limits.blocked(ids[i]) then return true end
  end
  return false
end

-- Lend a free slot to the last of `ids`: it pays nothing, nor do those above it. Returns whether a task moved.
function dispatch.lend_to(ids)
  local id, depth, tags = ids[#ids], #ids, {}
  local _, path = keys.split(id)
  local inner = not path or settings.is_nested() and redis.call('EXISTS', keys.ready(id)) == 1
  local left, seconds
  if not inner or dispatch.descend(ids, tags) then left, seconds = dispatch.move(ids) end
  if not left then return false end
  dispatch.pay(ids, tags, depth + 1, left, seconds)
  if redis.call('HEXISTS', keys.WAITING, id) == 0 then
    redis.call('ZREM', keys.PARKED, id)
    redis.call('ZREM', keys.LENDABLE, id)
  end
  for _, each in ipairs(path and limits.parked_of(path) or {id}) do
    if redis.call('ZSCORE', keys.LENDABLE, each) then limits.offer(each) end
  end
  return true
end

-- Nobody else has use for a free slot: lend it to one that is at its cap, the one that borrows least first. Nobody
-- contends, so nobody pays. Returns whether a task moved.
function dispatch.lend()
  local passed = 0
  while passed < dispatch.MOST_HELD_BACK and not work.is_over() do
    local id = redis.call('ZRANGE', keys.LENDABLE, passed, passed)[1]
    if not id then return false end
    local sub, path = keys.split(id)
    local ids, due = path and settings.ids_of(sub, path) or {id}, limits.blocked(id, true)
    if due then
      -- Back when one of its tasks has ended, or its token is there.
      if due < math.huge then limits.park(id, due) end
      redis.call('ZREM', keys.LENDABLE, id)
      work.take(work.PARK)
    elseif dispatch.held_back(ids) then
      -- Nothing tells it when that ends.
      passed = passed + 1
      work.take(work.PASS)
    elseif dispatch.lend_to(ids) then
      return true
    elseif work.is_over() then
      return false
    else
      redis.call('ZREM', keys.LENDABLE, id)
      work.take(work.PARK)
    end
  end
  return false
end

-- Whether anybody may be served, or may borrow a slot.
function dispatch.is_wanted()
  return redis.call('EXISTS', keys.ready(settings.queue.top), keys.LENDABLE) > 0
end

-- Fill the free slots, as many as `free` where that was just looked up, and as one call may. Returns how many tasks
-- moved.
function dispatch.fill(free)
  local moved = 0
  free = free or egress.free_slots()
  while moved < free and not work.is_over() do
    local ids, tags = {}, {}
    if dispatch.descend(ids, tags) then
      local left, seconds = dispatch.move(ids)
      if left then
        dispatch.pay(ids, tags, 1, left, seconds)
        work.take(work.DISPATCH + (#ids - 1 + (seconds and 1 or 0)) * work.LEVEL)
        moved = moved + 1
      elseif not work.is_over() then
        dispatch.forget(ids, tags)
        work.take(work.DISPATCH)
      end
    elseif not work.is_over() and dispatch.lend() then
      work.take(work.LEND)
      moved = moved + 1
    elseif not work.is_over() then
      return moved
    end
  end
  if moved < free and dispatch.is_wanted() then
    dispatch.more = true
    bell.ring()
  end
  return moved
end

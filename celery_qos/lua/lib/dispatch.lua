-- Dispatch: move tasks from tenant streams to egress while slots are free.
-- include keys, policy

local function free_slots()
  return tonumber(redis.call('HGET', STATE, 'slots') or 0) - redis.call('XLEN', EGRESS)
end

-- The account of the tenant's tasks was deleted or changed by hand: set it to what its streams hold, else some would be
-- left behind for good.
local function recount(tenant)
  local count = 0
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do count = count + stream_length(tenant_stream(tenant, priority)) end
  redis.call('HSET', WAITING, tenant, count)
  return count
end

-- Move the tenant's first task to egress. Returns how many it has left, or nil where its streams hold none.
local function move(tenant)
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do
    local stream = tenant_stream(tenant, priority)
    -- A key that is no stream holds no task: an error here would stop every tenant.
    local entry = redis.pcall('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if entry then
      local fields = entry[2]
      fields[#fields + 1] = 'enqueued'
      fields[#fields + 1] = entry[1]
      redis.call('XADD', EGRESS, '*', unpack(fields))
      local rest = redis.call('XLEN', stream) - 1
      -- XDEL of the last entry would leave an empty stream behind.
      if rest == 0 then
        redis.call('DEL', stream)
      else
        redis.call('XDEL', stream, entry[1])
      end
      redis.call('HINCRBY', STATE, 'waiting', -1)
      local left = redis.call('HINCRBY', WAITING, tenant, -1)
      if left < rest then left = recount(tenant) end
      if left == 0 then redis.call('HDEL', WAITING, tenant) end
      return left
    end
  end
end

-- The tenant's streams were deleted by hand: mend the accounts that still count their tasks.
local function forget(tenant)
  local lost = tonumber(redis.call('HGET', WAITING, tenant) or 0)
  -- Not -lost: of 0 that is -0, which HINCRBY refuses.
  redis.call('HINCRBY', STATE, 'waiting', 0 - lost)
  redis.call('HDEL', WAITING, tenant)
  policy_remove(tenant)
end

-- Fill the free slots. Returns how many tasks moved.
local function dispatch()
  local free, moved = free_slots(), 0
  while moved < free do
    local tenant, start = policy_next()
    if not tenant then break end
    local left = move(tenant)
    if left then
      policy_charge(tenant, start, left)
      moved = moved + 1
    else
      forget(tenant)
    end
  end
  return moved
end

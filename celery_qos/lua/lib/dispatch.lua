-- Dispatch: move tasks from tenant streams to egress while slots are free.
-- include keys, policy

local function free_slots()
  return tonumber(redis.call('HGET', STATE, 'slots') or 0) - redis.call('XLEN', EGRESS)
end

-- Move the tenant's first task to egress. Returns how many it has left, or nil where its streams hold none.
local function move(tenant)
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do
    local stream = tenant_stream(tenant, priority)
    local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if entry then
      local fields = entry[2]
      fields[#fields + 1] = 'enqueued'
      fields[#fields + 1] = entry[1]
      redis.call('XADD', EGRESS, '*', unpack(fields))
      -- XDEL of the last entry would leave an empty stream behind.
      if redis.call('XLEN', stream) == 1 then
        redis.call('DEL', stream)
      else
        redis.call('XDEL', stream, entry[1])
      end
      redis.call('HINCRBY', STATE, 'waiting', -1)
      local left = redis.call('HINCRBY', WAITING, tenant, -1)
      if left == 0 then redis.call('HDEL', WAITING, tenant) end
      return left
    end
  end
end

-- The tenant's streams were deleted by hand: mend the accounts that still count their tasks.
local function forget(tenant)
  local lost = tonumber(redis.call('HGET', WAITING, tenant) or 0)
  redis.call('HINCRBY', STATE, 'waiting', -lost)
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

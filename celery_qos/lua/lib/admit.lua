-- Tasks that join their tenant's stream, whatever the tree has to become for it.
-- include keys, settings, ingress, fair, limits, dispatch
local admit = {}

-- The tenant `id` gets tenants inside it: its own tasks become one of its children.
local function promote(id)
  local own, found = id .. keys.PART, false
  for each = keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY do
    if redis.call('EXISTS', keys.tenant_stream(id, each)) == 1 then
      redis.call('RENAME', keys.tenant_stream(id, each), keys.tenant_stream(own, each))
      found = true
    end
  end
  if found then
    -- Without an account, which was deleted by hand, it has one of what is there.
    local count = redis.call('HGET', keys.WAITING, id)
    if not count then
      count = 0
      for _, stream in ipairs(keys.tenant_streams(own)) do count = count + keys.stream_length(stream) end
    end
    redis.call('HSET', keys.WAITING, own, count)
    fair.add(id, own)
  end
end

-- The ids of a tenant that tasks of its own go by: where others are inside it, those are of a child beside them.
function admit.ids_of(sub, tenant)
  local ids = settings.ids_of(sub, tenant)
  if limits.is_inner(ids[#ids]) then ids[#ids + 1] = ids[#ids] .. keys.PART end
  return ids
end

-- How many tasks of `id` wait, those of a tenant in all sub-queues.
function admit.waiting_of(id)
  local count, _, path = 0, keys.split(id)
  for _, each in ipairs(redis.call('HMGET', keys.WAITING, unpack(path and settings.ids_of_tenant(path) or {id}))) do
    count = count + tonumber(each or 0)
  end
  return count
end

-- The options of the first of `ids` that has no room, or nil.
function admit.full(ids)
  for _, id in ipairs(ids) do
    local options = settings.options_of(id)
    if options.capacity and admit.waiting_of(id) >= options.capacity then return options end
  end
end

-- The task joins the last of `ids`, which are as `ids_of` has them.
function admit.join(ids, priority, fields)
  -- The sub-queue and the whole tenant; more is a tenant inside.
  local whole = settings.queue.top == keys.ROOT and 2 or 1
  if #ids > whole then
    redis.call('HSET', keys.STATE, 'nested', 1)
    redis.call('HDEL', keys.STATE, 'plain')
    settings.nested = true
    for i = whole, #ids - 1 do promote(ids[i]) end
  end
  if ingress.append(ids, priority, fields) == 1 then limits.make_ready(ids) end
end

-- A task that was taken care of before joins, whatever has become of its sub-queue and however many wait. Returns
-- whether it did: not where the key of its stream holds something else.
function admit.again(tenant, priority, named, percent, fields)
  local sub = ingress.sub_queue(tenant, named, percent) or ingress.sub_queue(tenant, '', percent)
  local ids = admit.ids_of(sub, tenant)
  if type(redis.pcall('XLEN', keys.tenant_stream(ids[#ids], priority))) == 'table' then return false end
  fair.check_types(ids)
  ingress.mark(fields, sub, priority)
  admit.join(ids, priority, fields)
  return true
end

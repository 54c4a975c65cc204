-- Put a task into its tenant's stream and dispatch.
-- KEYS: namespace. ARGV: tenant, priority (0 is served first), the sub-queue it names or '', its priority in percent or
-- '', 1 where no capacity limits it else 0, then the entry's fields and values.
-- Returns {'egress'} where the task went straight there, {'waits'} where it had to queue up, {'dropped'} where the
-- tenant's oldest had to go for it; {'full', on_full, sub-queue, capacity} where it was not taken; {'unknown',
-- sub-queues...} where there is no such sub-queue.
-- include keys, settings, egress
local tenant, priority, named, percent, exempt = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local fields = {unpack(ARGV, 6)}
settings.load_settings(tenant)
if settings.queue.leaving and redis.call('EXISTS', keys.WAITING) == 0 then
  redis.call('HSET', keys.SETTINGS, 'top', 'tenants')
  settings.load_settings(tenant)
end

local function is_declared(name)
  return redis.call('HEXISTS', keys.SETTINGS, 'sub:' .. name) == 1
end

-- The one that is named, else that of the tenant or of the one it is inside, else the one to whose share of ingress the
-- percent falls, else the last. Returns nil where the name is unknown.
local function sub_queue()
  if settings.queue.top ~= keys.ROOT then return named == '' and '' or nil end
  if named ~= '' then return is_declared(named) and named or nil end
  local path = tenant
  while path do
    local own = settings.options_of(':' .. path).sub_queue
    -- One that is declared no longer is none.
    if own and is_declared(own) then return own end
    path = string.match(path, '^(.*)' .. keys.PART)
  end
  local ingress = cjson.decode(redis.call('HGET', keys.SETTINGS, 'ingress') or '[]')
  for _, share in ipairs(ingress) do
    if percent and percent <= share[1] then return share[2] end
  end
  return #ingress > 0 and ingress[#ingress][2] or ''
end

local sub = sub_queue()
if not sub then return {'unknown', unpack(settings.sub_queues())} end
if sub ~= '' then
  fields[#fields + 1] = 'sub'
  fields[#fields + 1] = sub
end
local ids = settings.ids_of(sub, tenant)
local free, guarded, bounded = egress.free_slots(), settings.queue.measured, false
for _, id in ipairs(ids) do
  guarded = guarded or settings.is_guarded(id)
  bounded = bounded or settings.options_of(id).capacity
end

-- Append to the tenant's stream. Returns how many tasks it has now.
local function append()
  redis.call('XADD', keys.tenant_stream(ids[#ids], priority), '*', unpack(fields))
  redis.call('HINCRBY', keys.STATE, 'waiting', 1)
  local count
  for _, id in ipairs(ids) do count = redis.call('HINCRBY', keys.WAITING, id, 1) end
  return count
end

if free > 0 and not guarded and redis.call('EXISTS', keys.ready(settings.queue.top)) == 0
    and redis.call('HEXISTS', keys.WAITING, ids[1]) == 0 then
  -- Nobody waits, so nobody is overtaken and no turn is owed: the task's own stream would be a detour.
  egress.append(fields)
  return {'egress'}
end
if free <= 0 and not bounded and not settings.is_nested() and not string.find(tenant, keys.PART, 1, true)
    and redis.call('HEXISTS', keys.WAITING, ids[#ids]) == 1 then
  -- It queues up behind others of its tenant: nothing else changes.
  append()
  return {'waits'}
end
-- include fair, limits, dispatch

-- How many tasks of `id` wait, those of a tenant in all sub-queues.
local function waiting_of(id)
  local count, _, path = 0, keys.split(id)
  for _, each in ipairs(redis.call('HMGET', keys.WAITING, unpack(path and settings.ids_of_tenant(path) or {id}))) do
    count = count + tonumber(each or 0)
  end
  return count
end

-- The options of the first of `ids` that has no room, or nil.
local function full(ids)
  for _, id in ipairs(ids) do
    local options = settings.options_of(id)
    if options.capacity and waiting_of(id) >= options.capacity then return options end
  end
end

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
    redis.call('HSET', keys.WAITING, own, redis.call('HGET', keys.WAITING, id))
    fair.add(id, own)
  end
end

-- Remove the oldest of the least urgent tasks of `ids`.
local function drop_oldest(ids)
  for each = keys.LOWEST_PRIORITY, keys.HIGHEST_PRIORITY, -1 do
    local stream = keys.tenant_stream(ids[#ids], each)
    local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if entry then
      dispatch.remove(stream, entry[1])
      dispatch.discount(ids, 1)
      return
    end
  end
end

-- A key of another type raises before the task is written: its publisher is told that it was not.
fair.check_types()
if limits.is_inner(ids[#ids]) then ids[#ids + 1] = ids[#ids] .. keys.PART end
local no_room = not exempt and full(ids)
local drops = no_room and no_room.on_full == 'drop-oldest' and redis.call('HEXISTS', keys.WAITING, ids[#ids]) == 1
if no_room then
  local what = no_room.on_full or 'reject'
  if what == 'drop-oldest' and not drops then what = 'reject' end
  redis.call('HINCRBY', keys.SETTINGS, 'count:' .. what .. ':' .. sub, 1)
  if not drops then
    if what == 'dead-letter' then redis.call('XADD', keys.DEAD, '*', 'reason', 'full', unpack(fields)) end
    return {'full', what, sub, no_room.capacity}
  end
end

-- The sub-queue and the whole tenant; more is a tenant inside.
local whole = settings.queue.top == keys.ROOT and 2 or 1
if #ids > whole then
  redis.call('HSET', keys.STATE, 'nested', 1)
  settings.nested = true
  for i = whole, #ids - 1 do promote(ids[i]) end
end

if append() == 1 then limits.make_ready(ids) end
if drops then drop_oldest(ids) end
if free > 0 then dispatch.fill(free) end
return {drops and 'dropped' or 'waits'}

-- Move waiting tasks to another tenant, sub-queue or queue: to its end, as if they had just been published there, except
-- that they have waited since they were.
-- KEYS: namespace, namespace of the queue that they go to. ARGV: id of the tenant that has them, their priority, tenant
-- that they go to, sub-queue that they go to or '' for the one that it says, 1 where no capacity limits that else 0, 1 to
-- only look else 0; then of each its entry's id, headers, and properties, '' for what stays as it is.
-- Returns {how many were there and went, or would go; how many there is room for, -1 for any number}, {-1, sub-queues...}
-- where there is no such sub-queue, {-2} where they are there already.
-- include keys, settings, fair, limits, dispatch, admit, queues
settings.load_settings()
local from, priority, tenant, named = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local force, only_look = ARGV[5] == '1', ARGV[6] == '1'
-- Written anew: what was true of the old place.
local FORGOTTEN = {sub = true, priority = true}
-- Names and values that an entry gets besides: due, sub, priority.
local MOST_ADDED = 6
local source, target = KEYS[1], KEYS[2]
local from_sub, from_path = keys.split(from)
local from_ids, from_stream = settings.ids_of(from_sub, from_path), keys.tenant_stream(from, priority)
fair.check_types(from_ids)

local tasks = {}
for i = 7, #ARGV, 3 do
  local entry = redis.call('XRANGE', from_stream, ARGV[i], ARGV[i])[1]
  -- One that could not be passed on whole stays: dispatch buries it, or it just fits.
  if entry and #entry[2] + MOST_ADDED <= keys.MOST_VALUES then
    local fields, new, due = {}, {tenant = tenant}, false
    if ARGV[i + 1] ~= '' then new.headers = ARGV[i + 1] end
    if ARGV[i + 2] ~= '' then new.properties = ARGV[i + 2] end
    for j = 1, #entry[2], 2 do
      local name = entry[2][j]
      if not FORGOTTEN[name] then
        fields[#fields + 1] = name
        fields[#fields + 1] = new[name] or entry[2][j + 1]
      end
      due = due or name == 'due'
    end
    if not due then
      fields[#fields + 1] = 'due'
      fields[#fields + 1] = string.match(entry[1], '^%d+')
    end
    tasks[#tasks + 1] = {id = entry[1], fields = fields}
  end
end

-- Whether the move makes no difference to how many of `id` wait.
local function is_above(id)
  local sub, path = keys.split(id)
  if source ~= target then return false end
  if not path then return id == from_sub end
  return path == from_path or string.sub(from_path, 1, #path + 1) == path .. keys.PART
end

queues.turn_to(target)
local sub = ingress.sub_queue(tenant, named, nil)
if not sub then return {-1, unpack(settings.sub_queues())} end
local ids = admit.ids_of(sub, tenant)
if source == target and ids[#ids] == from then return {-2} end
fair.check_types(ids)
redis.call('XLEN', keys.tenant_stream(ids[#ids], priority))
local room = math.huge
for _, id in ipairs(force and {} or ids) do
  local capacity = settings.options_of(id).capacity
  if capacity and not is_above(id) then room = math.min(room, math.max(0, capacity - admit.waiting_of(id))) end
end
local count, reply_room = math.min(#tasks, room), room < math.huge and room or -1
if only_look or count == 0 then return {count, reply_room} end

queues.turn_to(source)
egress.allow_when_full()
local tags, left = {}, 0
for i, id in ipairs(from_ids) do
  tags[i] = tonumber(redis.call('ZSCORE', keys.ready(settings.node_of(from_ids, i)), id) or nil)
end
for i = 1, count do
  dispatch.remove(from_stream, tasks[i].id)
  left = dispatch.discount(from_ids, 1)
end
if left <= 0 then
  -- It keeps its finish tag: who comes back must not steal turns.
  dispatch.leave(from_ids, #from_ids, tags)
  for _, id in ipairs(from_ids) do
    if redis.call('HEXISTS', keys.WAITING, id) == 0 then
      for _, held in ipairs({keys.PARKED, keys.WOKEN, keys.LENDABLE}) do redis.call('ZREM', held, id) end
    end
  end
end

local free = queues.turn_to(target)
ids = admit.ids_of(sub, tenant)
for i = 1, count do
  ingress.mark(tasks[i].fields, sub, priority)
  admit.join(ids, priority, tasks[i].fields)
end
work.take(count * work.DISPATCH)
dispatch.fill(free)
queues.turn_to(source)
dispatch.fill()
egress.forget_idle()
return {count, reply_room}

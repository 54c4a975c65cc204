-- What the config and the run time say. An option set at run time wins over the config's.
-- include keys
local settings = {}

settings.NOTHING = {}

function settings.decoded(text)
  local ok, value = pcall(cjson.decode, text or '')
  return ok and type(value) == 'table' and value or nil
end

-- What an option must be, where others work with it: text, or a number of at least this much.
settings.TEXTS = {'algorithm', 'on_full', 'sub_queue'}
settings.MOST_SHARDS = 64
settings.TINY, settings.MOST = 2 ^ -40, 2 ^ 40
settings.LEAST = {capacity = 0, max_in_flight = 0, burst = 0, rate = settings.TINY, weight = settings.TINY,
  egress = settings.TINY, ingress = settings.TINY}

-- What is not what it must be, set by hand or by another release, counts as not said: an error would come after the
-- task has moved.
function settings.checked(options)
  for name, value in pairs(options) do
    if value == cjson.null then options[name] = nil end
  end
  for name, least in pairs(settings.LEAST) do
    local value = options[name]
    if value then
      value = tonumber(value)
      options[name] = value and value >= least and value <= settings.MOST and value or nil
    end
  end
  for _, name in ipairs(settings.TEXTS) do
    if type(options[name]) ~= 'string' then options[name] = nil end
  end
  return options
end

-- The options of the JSON object `base` with those of `set`, where null lifts a limit.
function settings.merged(base, set)
  local options, overrides = settings.decoded(base), settings.decoded(set)
  if not options and not overrides then return settings.NOTHING end
  options = options or {}
  for name, value in pairs(overrides or settings.NOTHING) do options[name] = value end
  return settings.checked(options)
end

-- Of the whole queue, as `derive` left them.
settings.known = {}

-- Fields of the settings that say what the tenant of `path` may have. Those of the default hold for whole tenants only.
function settings.tenant_fields(path)
  local fields = {'tenant:' .. path, 'set:tenant:' .. path}
  if not string.find(path, keys.PART, 1, true) then
    fields[3], fields[4] = 'default', 'set:default'
  end
  return fields
end

function settings.tenant_options(own, set, default, set_default)
  if not own and (default or set_default) then
    local options = settings.merged(default, set_default)
    if not set then return options end
    own = cjson.encode(options)
  end
  if not own and not set then return settings.NOTHING end
  return settings.merged(own, set)
end

-- Read what every script that schedules needs, and what is known of the tenant of `path`, at once.
function settings.load_settings(path)
  local found = redis.call('HMGET', keys.SETTINGS, 'algorithm', 'top', 'capacity', 'streams', 'shards', 'former',
    'measured', 'schema', 'optioned', unpack(path and settings.tenant_fields(path) or {}))
  local shards = keys.whole(found[5], 1, 1, settings.MOST_SHARDS)
  settings.queue = {
    algorithm = found[1] or 'wrr', top = (found[2] == 'root' or found[2] == 'leaving') and keys.ROOT or '',
    -- No sub-queues are declared any more, but tasks still wait in some.
    leaving = found[2] == 'leaving', capacity = tonumber(found[3] or nil),
    streams = keys.whole(found[4], 1, 1, shards), shards = shards, former = found[6],
    -- Some node charges for worker time.
    measured = found[7], schema = found[8],
    -- Some tenants, or all, have options.
    optioned = found[9]}
  if path then settings.known[':' .. path] = settings.tenant_options(found[10], found[11], found[12], found[13]) end
end

-- What a sub-queue or a tenant may have; a tenant's options are the same in every sub-queue.
function settings.options_of(id)
  local sub, path = keys.split(id)
  local key = path and ':' .. path or id
  local options = settings.known[key]
  if not options then
    if path then
      local fields = settings.tenant_fields(path)
      options = settings.tenant_options(unpack(redis.call('HMGET', keys.SETTINGS, unpack(fields))))
    else
      local found = redis.call('HMGET', keys.SETTINGS, 'sub:' .. id, 'set:sub:' .. id)
      -- What was set of one that is declared no longer could not be lifted, and its tasks would wait for good.
      options = found[1] and settings.merged(found[1], found[2]) or settings.NOTHING
    end
    settings.known[key] = options
  end
  return options
end

-- What limits count by: a tenant is the same one in every sub-queue.
function settings.subject_of(id)
  local _, path = keys.split(id)
  return path and 'tenant:' .. path or 'sub:' .. id
end

-- From the top of the tree down to the tenant: the sub-queue where there is a choice, then each part of the path.
function settings.ids_of(sub, path)
  local ids = settings.queue.top == keys.ROOT and {sub} or {}
  local from = 1
  while true do
    local at = string.find(path, keys.PART, from, true)
    ids[#ids + 1] = sub .. ':' .. (at and string.sub(path, 1, at - 1) or path)
    if not at then return ids end
    from = at + 1
  end
end

-- The node in which ids[i] contends.
function settings.node_of(ids, i)
  return i == 1 and settings.queue.top or ids[i - 1]
end

-- The node in which `id` contends.
function settings.node_above(id)
  local sub, path = keys.split(id)
  if not path then return keys.ROOT end
  local ids = settings.ids_of(sub, path)
  return settings.node_of(ids, #ids)
end

-- What these options give: a sub-queue's weight goes by the name `egress`.
function settings.weight_in(options)
  return options.weight or options.egress or 1
end

function settings.weight_of(id)
  return settings.weight_in(settings.options_of(id))
end

-- The sub-queues' names, in declared order.
function settings.sub_queues()
  if not settings.queue.names then
    local queue = settings.merged(unpack(redis.call('HMGET', keys.SETTINGS, 'queue', 'set:queue')))
    settings.queue.names = type(queue.queues) == 'table' and queue.queues or {}
  end
  return settings.queue.names
end

-- The implicit one, the declared ones, and those that are declared no longer but had tasks when that changed.
function settings.every_sub_queue()
  if not settings.queue.every then
    local every, former = {''}, settings.decoded(settings.queue.former or nil)
    for _, names in ipairs({settings.sub_queues(), former}) do
      for _, name in ipairs(names) do every[#every + 1] = name end
    end
    settings.queue.every = every
  end
  return settings.queue.every
end

-- The ids of a tenant in all sub-queues.
function settings.ids_of_tenant(path)
  if settings.queue.top ~= keys.ROOT then return {':' .. path} end
  local ids = {}
  for _, sub in ipairs(settings.every_sub_queue()) do ids[#ids + 1] = sub .. ':' .. path end
  return ids
end

-- Whether some tenant may have others inside.
function settings.is_nested()
  if settings.nested == nil then settings.nested = redis.call('HGET', keys.STATE, 'nested') end
  return settings.nested
end

-- Whether there is more to ask of who has these options than whose turn it is.
function settings.guards(options)
  return options.paused or options.max_in_flight or options.rate
end

function settings.is_guarded(id)
  return settings.guards(settings.options_of(id))
end

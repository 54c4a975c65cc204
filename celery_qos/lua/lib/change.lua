-- What a change of the settings means for tasks that wait already.
-- include keys, settings, fair, limits
local change = {}

-- Work out what scheduling reads from what was configured and set.
function change.derive()
  local queue = settings.merged(unpack(redis.call('HMGET', keys.SETTINGS, 'queue', 'set:queue')))
  local names = type(queue.queues) == 'table' and queue.queues or {}
  -- Tasks that wait in a sub-queue keep the tree's shape until the queue is idle.
  local root = #names > 0 or redis.call('HGET', keys.SETTINGS, 'top') == 'root' and redis.call('EXISTS', keys.WAITING) == 1
  local streams = math.max(1, tonumber(queue.streams) or 1)
  local shards = math.max(streams, tonumber(redis.call('HGET', keys.SETTINGS, 'shards') or 1))
  redis.call('HSET', keys.SETTINGS, 'algorithm', queue.algorithm or 'wrr', 'top', root and 'root' or 'tenants',
    'capacity', queue.capacity or '', 'streams', streams, 'shards', shards, 'workers', queue.workers or 1,
    'idle_threshold', queue.idle_threshold or 1, 'idle_timeout', queue.idle_timeout or 1)

  settings.known = {}
  local least, sum = math.huge, 0
  for _, name in ipairs(names) do
    local options = settings.options_of(name)
    least = math.min(least, settings.weight_of(name))
    sum = sum + (tonumber(options.ingress) or 1)
  end
  local ingress, upto = {}, 0
  for i, name in ipairs(names) do
    upto = upto + (tonumber(settings.options_of(name).ingress) or 1)
    ingress[i] = {upto / sum * 100, name}
  end
  if #names > 0 then
    redis.call('HSET', keys.SETTINGS, 'unit', least, 'ingress', cjson.encode(ingress))
  else
    redis.call('HDEL', keys.SETTINGS, 'unit', 'ingress')
  end
  settings.load_settings()
end

-- Where each stands in declared order.
function change.rank(kind, names)
  for i, name in ipairs(type(names) == 'table' and names or {}) do
    redis.call('HSET', keys.SETTINGS, 'rank:' .. kind .. ':' .. name, i)
  end
end

-- Remember `fields` under `ids_before`: the weights of those that a change may touch.
function change.weights_of(ids)
  local weights = {}
  for _, id in ipairs(ids) do weights[id] = settings.weight_of(id) end
  return weights
end

-- The node in which `id` contends.
function change.node_above(id)
  local sub, path = keys.split(id)
  if not path then return keys.ROOT end
  local ids = settings.ids_of(sub, path)
  return settings.node_of(ids, #ids)
end

-- Those of `weights` weigh something else now, and may have been parked for what no longer holds.
function change.apply(weights)
  settings.known, fair.unit = {}, nil
  for id, old in pairs(weights) do
    fair.reweigh(change.node_above(id), id, old / settings.weight_of(id))
    limits.unpark(id)
  end
end

-- All that are parked contend again, some at each sweep.
function change.unpark_all()
  if redis.call('EXISTS', keys.PARKED) == 1 then
    redis.call('ZUNIONSTORE', keys.PARKED, 1, keys.PARKED, 'WEIGHTS', 0)
    redis.call('DEL', keys.BELL)
    redis.call('RPUSH', keys.BELL, 1)
    limits.unpark_due(100)
  end
end

-- The ids that contend at the node of the top and, where that holds sub-queues, within each of them.
function change.contenders()
  local ids = {}
  local nodes = {settings.queue.top}
  if settings.queue.top == keys.ROOT then
    nodes[2] = ''
    for _, name in ipairs(settings.sub_queues()) do nodes[#nodes + 1] = name end
  end
  for _, node in ipairs(nodes) do
    for _, tags in ipairs({keys.ready(node), keys.finish(node)}) do
      for _, id in ipairs(redis.call('ZRANGE', tags, 0, -1)) do ids[#ids + 1] = id end
    end
  end
  return ids
end

-- What each node that may exist goes by.
function change.algorithms()
  local found = {[settings.queue.top] = settings.queue.algorithm}
  if settings.queue.top == keys.ROOT then
    for _, name in ipairs(settings.sub_queues()) do found[name] = settings.options_of(name).algorithm or 'wrr' end
  end
  return found
end

-- Start anew where the algorithm is not what it was `before`. Tenants inside tenants go by what their sub-queue goes by.
function change.restart_changed(before)
  local any_nested = redis.call('HGET', keys.STATE, 'nested')
  for node, name in pairs(change.algorithms()) do
    if before[node] and before[node] ~= name then
      local inner = any_nested and node ~= keys.ROOT and redis.call('ZRANGE', keys.ready(node), 0, -1) or {}
      fair.restart(node)
      while #inner > 0 do
        local id = table.remove(inner)
        for _, each in ipairs(redis.call('ZRANGE', keys.ready(id), 0, -1)) do inner[#inner + 1] = each end
        if redis.call('EXISTS', keys.ready(id)) == 1 then fair.restart(id) end
      end
    end
  end
end

-- The queue has sub-queues now: what waits in the implicit one contends beside them.
function change.adopt_root(top_before)
  if top_before == '' and settings.queue.top == keys.ROOT then
    local waiting = tonumber(redis.call('HGET', keys.STATE, 'waiting') or 0)
    if waiting > 0 then redis.call('HSET', keys.WAITING, '', waiting) end
    if redis.call('EXISTS', keys.ready('')) == 1 then fair.add(keys.ROOT, '') end
  end
end

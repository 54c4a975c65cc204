-- What a change of the settings means for tasks that wait already.
-- include keys, settings, fair, limits

-- Work out what scheduling reads from what was configured and set.
local function derive()
  local queue = merged(unpack(redis.call('HMGET', SETTINGS, 'queue', 'set:queue')))
  local names = type(queue.queues) == 'table' and queue.queues or {}
  -- Tasks that wait in a sub-queue keep the tree's shape until the queue is idle.
  local root = #names > 0 or redis.call('HGET', SETTINGS, 'top') == 'root' and redis.call('EXISTS', WAITING) == 1
  local streams = math.max(1, tonumber(queue.streams) or 1)
  local shards = math.max(streams, tonumber(redis.call('HGET', SETTINGS, 'shards') or 1))
  redis.call('HSET', SETTINGS, 'algorithm', queue.algorithm or 'wrr', 'top', root and 'root' or 'tenants',
    'capacity', queue.capacity or '', 'streams', streams, 'shards', shards, 'workers', queue.workers or 1,
    'idle_threshold', queue.idle_threshold or 1, 'idle_timeout', queue.idle_timeout or 1)

  known = {}
  local least, sum = math.huge, 0
  for _, name in ipairs(names) do
    local options = options_of(name)
    least = math.min(least, weight_of(name))
    sum = sum + (tonumber(options.ingress) or 1)
  end
  local ingress, upto = {}, 0
  for i, name in ipairs(names) do
    upto = upto + (tonumber(options_of(name).ingress) or 1)
    ingress[i] = {upto / sum * 100, name}
  end
  if #names > 0 then
    redis.call('HSET', SETTINGS, 'unit', least, 'ingress', cjson.encode(ingress))
  else
    redis.call('HDEL', SETTINGS, 'unit', 'ingress')
  end
  load_settings()
end

-- Where each stands in declared order.
local function rank(kind, names)
  for i, name in ipairs(type(names) == 'table' and names or {}) do
    redis.call('HSET', SETTINGS, 'rank:' .. kind .. ':' .. name, i)
  end
end

-- Remember `fields` under `ids_before`: the weights of those that a change may touch.
local function weights_of(ids)
  local weights = {}
  for _, id in ipairs(ids) do weights[id] = weight_of(id) end
  return weights
end

-- The node in which `id` contends.
local function node_above(id)
  local sub, path = split(id)
  if not path then return ROOT end
  local ids = ids_of(sub, path)
  return node_of(ids, #ids)
end

-- Those of `weights` weigh something else now, and may have been parked for what no longer holds.
local function apply(weights)
  known, unit = {}, nil
  for id, old in pairs(weights) do
    reweigh(node_above(id), id, old / weight_of(id))
    unpark(id)
  end
end

-- All that are parked contend again, some at each sweep.
local function unpark_all()
  if redis.call('EXISTS', PARKED) == 1 then
    redis.call('ZUNIONSTORE', PARKED, 1, PARKED, 'WEIGHTS', 0)
    redis.call('DEL', BELL)
    redis.call('RPUSH', BELL, 1)
    unpark_due(100)
  end
end

-- The ids that contend at the node of the top and, where that holds sub-queues, within each of them.
local function contenders()
  local ids = {}
  local nodes = {QUEUE.top}
  if QUEUE.top == ROOT then
    nodes[2] = ''
    for _, name in ipairs(sub_queues()) do nodes[#nodes + 1] = name end
  end
  for _, node in ipairs(nodes) do
    for _, tags in ipairs({ready(node), finish(node)}) do
      for _, id in ipairs(redis.call('ZRANGE', tags, 0, -1)) do ids[#ids + 1] = id end
    end
  end
  return ids
end

-- What each node that may exist goes by.
local function algorithms()
  local found = {[QUEUE.top] = QUEUE.algorithm}
  if QUEUE.top == ROOT then
    for _, name in ipairs(sub_queues()) do found[name] = options_of(name).algorithm or 'wrr' end
  end
  return found
end

-- Start anew where the algorithm is not what it was `before`. Tenants inside tenants go by what their sub-queue goes by.
local function restart_changed(before)
  local nested = redis.call('HGET', STATE, 'nested')
  for node, name in pairs(algorithms()) do
    if before[node] and before[node] ~= name then
      local inner = nested and node ~= ROOT and redis.call('ZRANGE', ready(node), 0, -1) or {}
      restart(node)
      while #inner > 0 do
        local id = table.remove(inner)
        for _, each in ipairs(redis.call('ZRANGE', ready(id), 0, -1)) do inner[#inner + 1] = each end
        if redis.call('EXISTS', ready(id)) == 1 then restart(id) end
      end
    end
  end
end

-- The queue has sub-queues now: what waits in the implicit one contends beside them.
local function adopt_root(top_before)
  if top_before == '' and QUEUE.top == ROOT then
    local waiting = tonumber(redis.call('HGET', STATE, 'waiting') or 0)
    if waiting > 0 then redis.call('HSET', WAITING, '', waiting) end
    if redis.call('EXISTS', ready('')) == 1 then add(ROOT, '') end
  end
end

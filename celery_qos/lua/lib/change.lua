-- What a change of the settings means for tasks that wait already.
-- include keys, settings, egress, fair, limits, dispatch, moving
local change = {}

-- Work out what scheduling reads from what was configured and set. `before`: the sub-queues that there were.
function change.derive(before)
  local queue = settings.merged(unpack(redis.call('HMGET', keys.SETTINGS, 'queue', 'set:queue')))
  local names = type(queue.queues) == 'table' and queue.queues or {}
  -- Tasks that wait in a sub-queue keep the tree's shape until the queue is idle.
  local top = 'tenants'
  if #names > 0 then
    top = 'root'
  elseif settings.queue.top == keys.ROOT and redis.call('EXISTS', keys.WAITING) == 1 then
    top = 'leaving'
  end
  local streams = keys.whole(queue.streams, 1, 1, settings.MOST_SHARDS)
  local shards = math.max(streams, settings.queue.shards)
  redis.call('HSET', keys.SETTINGS, 'algorithm', queue.algorithm or 'wrr', 'top', top,
    'capacity', queue.capacity or '', 'streams', streams, 'shards', shards, 'workers', tonumber(queue.workers) or 1,
    'max_deliveries', tonumber(queue.max_deliveries) or 5,
    'max_dead_letters', tonumber(queue.max_dead_letters) or 100000,
    'idle_threshold', tonumber(queue.idle_threshold) or 1, 'idle_timeout', tonumber(queue.idle_timeout) or 10)

  local declared, former = {}, {}
  for _, name in ipairs(names) do declared[name] = true end
  for _, name in ipairs(before) do
    if name ~= '' and not declared[name] and redis.call('HEXISTS', keys.WAITING, name) == 1 then
      former[#former + 1] = name
    end
  end
  table.sort(former)
  if #former > 0 then
    redis.call('HSET', keys.SETTINGS, 'former', cjson.encode(former))
  else
    redis.call('HDEL', keys.SETTINGS, 'former')
  end

  settings.known = {}
  local least, sum = math.huge, 0
  for _, name in ipairs(names) do
    local options = settings.options_of(name)
    least = math.min(least, settings.weight_of(name))
    sum = sum + (options.ingress or 1)
  end
  local ingress, upto = {}, 0
  for i, name in ipairs(names) do
    upto = upto + (settings.options_of(name).ingress or 1)
    ingress[i] = {upto / sum * 100, name}
  end
  if #names > 0 then
    redis.call('HSET', keys.SETTINGS, 'unit', least, 'ingress', cjson.encode(ingress))
  else
    redis.call('HDEL', keys.SETTINGS, 'unit', 'ingress')
  end
  settings.load_settings()
  local measured = false
  for _, node in ipairs(change.main_nodes()) do measured = measured or fair.policy_of(node).measured end
  if measured then
    redis.call('HSET', keys.SETTINGS, 'measured', 1)
  else
    redis.call('HDEL', keys.SETTINGS, 'measured')
  end
  settings.queue.measured = measured
end

-- How many values one command is given: Lua cannot pass on many more.
local MOST_VALUES = 1000

-- Call `act` with some of `values` after the others.
function change.in_parts(values, act)
  for from = 1, #values, MOST_VALUES do act(from, math.min(from + MOST_VALUES - 1, #values)) end
end

-- Store fields and values, an even number of them.
function change.store(pairs_)
  change.in_parts(pairs_, function(from, upto) redis.call('HSET', keys.SETTINGS, unpack(pairs_, from, upto)) end)
end

-- Where each stands in declared order.
function change.rank(kind, names)
  local ranks = {}
  for i, name in ipairs(type(names) == 'table' and names or {}) do
    ranks[#ranks + 1] = 'rank:' .. kind .. ':' .. name
    ranks[#ranks + 1] = i
  end
  change.store(ranks)
end

-- Those of `ids` that contend, or are parked: for others a change of their options is nothing to act on.
function change.there(ids)
  local of_node, found = {}, {}
  for _, id in ipairs(ids) do
    local node = settings.node_above(id)
    of_node[node] = of_node[node] or {}
    table.insert(of_node[node], id)
  end
  for node, children in pairs(of_node) do
    change.in_parts(children, function(from, upto)
      local scores = {redis.call('HMGET', keys.owing(node), unpack(children, from, upto))}
      for _, tags in ipairs({keys.ready(node), keys.finish(node), keys.PARKED}) do
        scores[#scores + 1] = redis.call('ZMSCORE', tags, unpack(children, from, upto))
      end
      for i = from, upto do
        local at = i - from + 1
        if scores[1][at] or scores[2][at] or scores[3][at] or scores[4][at] then found[#found + 1] = children[i] end
      end
    end)
  end
  return found
end

-- The weights of those that a change may touch.
function change.weights_of(ids)
  local weights = {}
  for _, id in ipairs(ids) do weights[id] = settings.weight_of(id) end
  return weights
end

-- The ids that have `weights`; the order of pairs is anyone's.
local function sorted_ids(weights)
  local ids = {}
  for id in pairs(weights) do ids[#ids + 1] = id end
  table.sort(ids)
  return ids
end

-- The node of the top and, where that holds sub-queues, these.
function change.main_nodes()
  local nodes = {settings.queue.top}
  if settings.queue.top == keys.ROOT then
    for _, name in ipairs(settings.every_sub_queue()) do nodes[#nodes + 1] = name end
  end
  return nodes
end

-- More tenants than these, of which the options change, are for several calls.
change.FEW = 50

-- What the default options were, as JSON, weighed something else, or the `former` ones of many tenants did: their ids,
-- each followed by its options. `weights`: those whose tags are right already.
function change.reweigh_all(default, weights, former)
  local now = redis.call('HMGET', keys.SETTINGS, 'default', 'set:default')
  default = default or now
  local function weight_by(options)
    return settings.weight_in(settings.tenant_options(false, false, unpack(options)))
  end
  if weight_by(default) == weight_by(now) and not former then return end
  local done, of_node = {}, {}
  for id in pairs(weights) do done[id] = true end
  for i = 1, former and #former or 0, 2 do
    local node = keys.split(former[i])
    of_node[node] = of_node[node] or {}
    table.insert(of_node[node], former[i])
    table.insert(of_node[node], former[i + 1])
  end
  for _, node in ipairs(change.main_nodes()) do
    if node ~= keys.ROOT and redis.call('HEXISTS', keys.MOVING, node) == 0 then
      moving.begin(node, {default = default[1], set_default = default[2], done = done, own = of_node[node] and true})
      if of_node[node] and redis.call('HEXISTS', keys.MOVING, node) == 1 then
        change.in_parts(of_node[node], function(from, upto)
          redis.call('HSET', keys.aside('own', node), unpack(of_node[node], from, upto))
        end)
      end
    end
  end
end

-- What each of these nodes goes by.
function change.algorithms()
  local found = {}
  for _, node in ipairs(change.main_nodes()) do found[node] = fair.algorithm_of(node) end
  return found
end

-- The tenants in `node` with others inside, and such inside those. A parked one is not among the ready.
function change.with_inner(node)
  local found = {}
  local function look(ids)
    for _, id in ipairs(ids) do
      if redis.call('EXISTS', keys.ready(id)) == 1 then
        found[#found + 1] = id
        look(redis.call('ZRANGE', keys.ready(id), 0, -1))
      end
    end
  end
  look(redis.call('ZRANGE', keys.ready(node), 0, -1))
  local parked = {}
  for _, id in ipairs(redis.call('ZRANGE', keys.PARKED, 0, -1)) do
    if keys.split(id) == node then parked[#parked + 1] = id end
  end
  look(parked)
  return found
end

-- Start anew where the algorithm is not what it was `before`, or where it goes by another order. Tenants inside tenants
-- go by what their sub-queue goes by.
function change.restart_changed(before, reordered)
  for node, name in pairs(change.algorithms()) do
    if (before[node] or 'wrr') ~= name or reordered and fair.policies[name].rank then
      local inside = settings.is_nested() and node ~= keys.ROOT and change.with_inner(node) or {}
      moving.begin(node)
      for _, id in ipairs(inside) do fair.restart(id) end
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

-- Tasks that wait go by the settings as they are now. `weights` and `before`: what `weights_of` and `algorithms` returned
-- before; `reordered`: the declared order is another one; `default`: the default options before, {config's, set ones}
-- as JSON, where they are others; `former`: those of many tenants, as `reweigh_all` has them. Where many wait, the rest
-- is for other calls.
function change.take_effect(weights, before, reordered, default, former)
  redis.call('HDEL', keys.STATE, 'plain')
  change.restart_changed(before, reordered)
  if redis.call('EXISTS', keys.egress(0)) == 1 then egress.ensure_groups() end
  settings.known, fair.unit = {}, nil
  moving.go_on()
  local ids = sorted_ids(weights)
  for _, id in ipairs(ids) do fair.reweigh(settings.node_above(id), id, weights[id] / settings.weight_of(id)) end
  if default or former then change.reweigh_all(default, weights, former) end
  moving.go_on()
  -- Who is parked may be so for what no longer holds.
  for _, id in ipairs(ids) do limits.unpark(id) end
  if default or former then limits.wake_all() end
  moving.go_on()
  dispatch.fill()
  egress.forget_idle()
end

-- A change that many wait for is not over: the next one has to wait until it is. Returns whether it is not.
function change.must_wait()
  if not moving.is_under_way() then return false end
  moving.go_on()
  dispatch.fill()
  return true
end

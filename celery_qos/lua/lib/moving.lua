-- Changes of the settings that any number of tenants may wait for: each call moves some, in the order of their turns,
-- until all go by the new settings.
-- What contends in a node is set aside at once, by another name, and comes back with other tags, those whose turn is
-- next first. Who is not back yet has no turn: each has to have had one more than the others for it to show, and its
-- tag makes up for it. Who was parked is woken likewise.
-- include keys, settings, fair, limits, dispatch, bell, work
local moving = {}

local KINDS = {'ready', 'finish', 'owing'}

-- All that contend in `node` are to start anew, or where there is a table `reweighs` to have their tags corrected: by
-- `default` and `set_default`, the options of the default tenant before, as JSON. Those of the ids in `done` are right.
function moving.begin(node, reweighs)
  if redis.call('EXISTS', keys.ready(node)) == 0 then return end
  local how = {vtime = string.format('%.17g', fair.virtual_time(node)), reweighs = reweighs}
  if not reweighs then fair.forget(node) end
  for _, kind in ipairs(KINDS) do
    local key = keys.of_node(':' .. kind, node)
    if redis.call('EXISTS', key) == 1 then redis.call('RENAME', key, keys.aside(kind, node)) end
  end
  redis.call('HSET', keys.MOVING, node, cjson.encode(how))
end

-- By how much the distance of its tag from virtual time grows.
local function ratio_of(node, id, how)
  local _, path = keys.split(id)
  local done, policy = how.reweighs.done or settings.NOTHING, fair.policy_of(node)
  if not path or done[id] or policy.rank and policy.rank(id) then return 1 end
  local own, set = unpack(redis.call('HMGET', keys.SETTINGS, 'tenant:' .. path, 'set:tenant:' .. path))
  local was = how.reweighs.own and redis.call('HGET', keys.aside('own', node), id)
  if was then own = was ~= '' and was end
  local before = settings.tenant_options(own, set, how.reweighs.default or false, how.reweighs.set_default or false)
  return settings.weight_in(before) / settings.weight_of(id)
end

local function corrected(node, id, tag, how)
  local vtime = how.vtime
  return tag > vtime and vtime + (tag - vtime) * ratio_of(node, id, how) or tag
end

-- Whether `id` has found its way back by itself, or waits no more.
local function is_back(node, id)
  return redis.call('ZSCORE', keys.ready(node), id) or redis.call('ZSCORE', keys.PARKED, id)
end

-- Some of those that were ready.
local function move_ready(node, how)
  local placed = false
  local aside = redis.call('ZPOPMIN', keys.aside('ready', node), work.room(work.PLACE))
  for i = 1, #aside, 2 do
    local id, tag = aside[i], tonumber(aside[i + 1])
    if redis.call('HEXISTS', keys.WAITING, id) == 1 and not is_back(node, id) then
      if how.reweighs then
        redis.call('ZADD', keys.ready(node), corrected(node, id, tag, how), id)
      else
        fair.add(node, id)
      end
      placed = true
    end
  end
  -- It may have been found to have none inside.
  local top = settings.queue.top
  if placed and node ~= top and not is_back(top, node) and not redis.call('ZSCORE', keys.aside('ready', top), node) then
    fair.add(top, node)
  end
  work.take(#aside / 2 * work.PLACE)
end

-- Some of those that are not ready, and owe.
local function move_owed(node, how)
  local found = redis.call('ZPOPMIN', keys.aside('finish', node), work.room(work.PLACE))
  local owing = redis.call('HRANDFIELD', keys.aside('owing', node), work.room(work.PLACE), 'WITHVALUES')
  for i = 1, #owing, 2 do redis.call('HDEL', keys.aside('owing', node), owing[i]) end
  for list, tags in ipairs({found, owing}) do
    for i = 1, #tags, 2 do
      local id, tag = tags[i], tonumber(tags[i + 1])
      if not redis.call('ZSCORE', keys.ready(node), id) and not redis.call('ZSCORE', keys.finish(node), id) then
        tag = corrected(node, id, tag, how)
        -- Its tasks may have ended meanwhile.
        if list == 2 and redis.call('HEXISTS', keys.IN_FLIGHT, settings.subject_of(id)) == 1 then
          redis.call('HSETNX', keys.owing(node), id, tag)
        else
          redis.call('ZADD', keys.finish(node), tag, id)
        end
      end
    end
    work.take(#tags / 2 * work.PLACE)
  end
end

-- Some that were parked contend again.
local function wake_some()
  local woken = redis.call('ZPOPMIN', keys.WOKEN, work.room(work.UNPARK))
  local ids = {}
  for i = 1, #woken, 2 do ids[#ids + 1] = woken[i] end
  table.sort(ids)
  for _, id in ipairs(ids) do
    if not redis.call('ZSCORE', keys.PARKED, id) then
      redis.call('ZREM', keys.LENDABLE, id)
      limits.contend(id)
    end
  end
  work.take(#ids * work.UNPARK)
end

function moving.is_under_way()
  return redis.call('EXISTS', keys.MOVING, keys.WOKEN) > 0
end

-- What a script replies that changed the settings, or goes on with that: 1 where there is more to do.
function moving.is_left()
  return (dispatch.more or moving.is_under_way()) and 1 or 0
end

-- As much as one call may. Returns whether anything was there to do.
function moving.go_on()
  if not moving.is_under_way() then return false end
  local nodes = redis.call('HKEYS', keys.MOVING)
  table.sort(nodes)
  local limit, share = work.limit, (work.limit - work.done) / #nodes
  for i, node in ipairs(nodes) do
    -- Some of each, however many there are: none is to be without any that is ready.
    work.limit = math.max(work.done + 1, limit - share * (#nodes - i))
    local how = settings.decoded(redis.call('HGET', keys.MOVING, node)) or {}
    how.vtime = tonumber(how.vtime) or 0
    move_ready(node, how)
    move_owed(node, how)
    local aside = {}
    for i, kind in ipairs(KINDS) do aside[i] = keys.aside(kind, node) end
    if redis.call('EXISTS', unpack(aside)) == 0 then
      redis.call('HDEL', keys.MOVING, node)
      redis.call('UNLINK', keys.aside('own', node))
      -- Nobody has come back.
      if redis.call('EXISTS', keys.ready(node)) == 0 then fair.forget(node) end
    end
  end
  work.limit = limit
  if not work.is_over() then wake_some() end
  if moving.is_under_way() then bell.ring() end
  return true
end

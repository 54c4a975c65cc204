-- Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) among the children of one node.
-- A child that becomes ready starts at max(virtual time, its finish tag); a dispatch sets virtual time to its start tag
-- and charges finish = start + span, which is its next start while it stays ready. The policy says what the span is.
-- include keys, settings
local fair = {}

fair.policies = {}
-- include policies

-- Newcomers of one instant are set this far apart, so that equal tags are served in the order of arrival and not of
-- names. Past 2^20 the distance grows with the tags, so that it is not lost in their rounding.
fair.TIE = 2 ^ -30

-- The tenants of a sub-queue, and what is inside them, go by its algorithm.
function fair.algorithm_of(node)
  local name = settings.queue.algorithm
  if node ~= settings.queue.top then
    local sub = keys.split(node) or node
    if sub ~= '' or settings.queue.top == keys.ROOT and not settings.queue.leaving then
      name = settings.options_of(sub).algorithm
    end
  end
  return fair.policies[name] and name or 'wrr'
end

function fair.policy_of(node)
  return fair.policies[fair.algorithm_of(node)]
end

-- Raise an error where a key is of another type that is written to for a task of `ids`.
function fair.check_types(ids)
  redis.call('HLEN', keys.WAITING)
  redis.call('ZCARD', keys.PARKED)
  redis.call('ZCARD', keys.LENDABLE)
  for i = 1, ids and #ids or 1 do
    local node = i == 1 and settings.queue.top or ids[i - 1]
    redis.call('ZCARD', keys.ready(node))
    redis.call('ZCARD', keys.finish(node))
    redis.call('HLEN', keys.owing(node))
  end
end

function fair.virtual_time(node)
  return tonumber(redis.call('HGET', keys.STATE, 'vtime:' .. node) or nil) or fair.policy_of(node).origin or 0
end

-- `id` becomes ready: give it a place among the others of the node.
function fair.add(node, id)
  local policy = fair.policy_of(node)
  local start = policy.rank and policy.rank(id)
  if not start then
    local origin = policy.origin or 0
    local tags = redis.call('HMGET', keys.STATE, 'vtime:' .. node, 'newest:' .. node)
    local vtime, newest = tonumber(tags[1] or origin), tonumber(tags[2] or -1)
    start = vtime
    if newest >= vtime then start = newest + fair.TIE * math.max(1, newest * 2 ^ -20) end
    local owed = redis.call('ZSCORE', keys.finish(node), id)
    if not owed and policy.measured then owed = redis.call('HGET', keys.owing(node), id) end
    owed = tonumber(owed or nil)
    if owed then
      redis.call('ZREM', keys.finish(node), id)
      if policy.measured then redis.call('HDEL', keys.owing(node), id) end
    end
    if owed and owed > start then
      start = owed
    else
      redis.call('HSET', keys.STATE, 'newest:' .. node, start)
    end
  end
  redis.call('ZADD', keys.ready(node), start, id)
end

-- The child whose turn it is and its start tag, or nil.
function fair.first(node)
  local child = redis.call('ZRANGE', keys.ready(node), 0, 0, 'WITHSCORES')
  return child[1], tonumber(child[2])
end

-- Nobody contends any more: nobody owes a turn either.
function fair.forget(node)
  redis.call('UNLINK', keys.finish(node), keys.owing(node))
  redis.call('HDEL', keys.STATE, 'vtime:' .. node, 'newest:' .. node)
end

-- `id` is ready no longer. It keeps its finish tag while others contend: a child that returns must not steal turns.
-- Returns whether the node is left without any that is ready.
function fair.take_out(node, id, tag)
  redis.call('ZREM', keys.ready(node), id)
  if redis.call('EXISTS', keys.ready(node), keys.aside('ready', node)) == 0 then
    fair.forget(node)
    return true
  end
  local policy = fair.policy_of(node)
  if tag and not (policy.rank and policy.rank(id)) then
    if policy.measured and redis.call('HEXISTS', keys.IN_FLIGHT, settings.subject_of(id)) == 1 then
      -- What its tasks cost is known when they have ended: the tag must be there to be corrected.
      redis.call('HSET', keys.owing(node), id, tag)
    else
      -- Tags that virtual time has passed: their owners would start at virtual time anyway.
      redis.call('ZREMRANGEBYSCORE', keys.finish(node), '-inf', fair.virtual_time(node))
      redis.call('ZADD', keys.finish(node), tag, id)
    end
  end
  return false
end

-- A task of `id` was dispatched from the tag `start`. Returns the finish tag.
function fair.charge(node, id, start, seconds)
  local policy = fair.policy_of(node)
  if policy.rank and policy.rank(id) then return start end
  -- A corrected tag may lie before virtual time, which never goes back.
  if not policy.measured or start > fair.virtual_time(node) then
    redis.call('HSET', keys.STATE, 'vtime:' .. node, start)
  end
  return start + policy.span(id, seconds)
end

-- A task of `id` took `difference` seconds more than it was charged for.
function fair.correct(node, id, difference)
  local policy = fair.policy_of(node)
  if not policy.measured then return end
  local span = policy.span(id, difference)
  if redis.call('ZSCORE', keys.ready(node), id) then
    redis.call('ZINCRBY', keys.ready(node), span, id)
  elseif redis.call('HEXISTS', keys.owing(node), id) == 1 then
    redis.call('HINCRBYFLOAT', keys.owing(node), id, span)
  elseif redis.call('ZSCORE', keys.finish(node), id) then
    redis.call('ZINCRBY', keys.finish(node), span, id)
  elseif redis.call('ZSCORE', keys.aside('ready', node), id) then
    redis.call('ZINCRBY', keys.aside('ready', node), span, id)
  end
end

-- No task of `id` is in flight any more, so its tag is final.
function fair.settle_tag(node, id)
  local tag = tonumber(redis.call('HGET', keys.owing(node), id) or nil)
  if not tag then return end
  redis.call('HDEL', keys.owing(node), id)
  local vtime = fair.virtual_time(node)
  redis.call('ZREMRANGEBYSCORE', keys.finish(node), '-inf', vtime)
  if tag > vtime then redis.call('ZADD', keys.finish(node), tag, id) end
end

-- The weight of `id` was `ratio` times what it is. By how much its tag is ahead of virtual time is work it was given in
-- advance: at the new weight that is sooner or later made up for. Else a tenant once held down at 0.01 would wait out
-- 100 turns.
function fair.reweigh(node, id, ratio)
  local policy = fair.policy_of(node)
  if ratio == 1 or policy.rank and policy.rank(id) then return end
  local vtime = fair.virtual_time(node)
  for _, tags in ipairs({keys.ready(node), keys.finish(node)}) do
    local tag = tonumber(redis.call('ZSCORE', tags, id) or nil)
    if tag and tag > vtime then redis.call('ZADD', tags, vtime + (tag - vtime) * ratio, id) end
  end
  local tag = policy.measured and tonumber(redis.call('HGET', keys.owing(node), id) or nil)
  if tag and tag > vtime then redis.call('HSET', keys.owing(node), id, vtime + (tag - vtime) * ratio) end
end

-- Another algorithm: its tags mean something else, so everyone starts anew, in the order of the old tags.
function fair.restart(node)
  local ids = redis.call('ZRANGE', keys.ready(node), 0, -1)
  redis.call('DEL', keys.ready(node))
  fair.forget(node)
  for _, id in ipairs(ids) do fair.add(node, id) end
end

-- Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) among the children of one node.
-- A child that becomes ready starts at max(virtual time, its finish tag); a dispatch sets virtual time to its start tag and
-- charges finish = start + span, which is its next start while it stays ready. The policy says what the span is.
-- include keys, settings

local POLICIES, unit = {}, nil
-- include policies

-- Newcomers of one instant are set this far apart, so that equal tags are served in the order of arrival and not of names.
-- Past 2^20 the distance grows with the tags, so that it is not lost in their rounding.
local TIE = 2 ^ -30

-- The tenants of a sub-queue, and what is inside them, go by its algorithm.
local function policy_of(node)
  local name = QUEUE.algorithm
  if node ~= QUEUE.top then
    local sub = split(node) or node
    if sub ~= '' or QUEUE.top == ROOT then name = options_of(sub).algorithm end
  end
  return POLICIES[name or 'wrr'] or POLICIES.wrr
end

-- Raise an error where a key is of another type.
local function check_types()
  redis.call('ZCARD', ready(QUEUE.top))
  redis.call('ZCARD', finish(QUEUE.top))
  redis.call('HLEN', WAITING)
end

local function virtual_time(node)
  return tonumber(redis.call('HGET', STATE, 'vtime:' .. node) or nil) or policy_of(node).origin or 0
end

-- `id` becomes ready: give it a place among the others of the node.
local function add(node, id)
  local policy = policy_of(node)
  local start = policy.rank and policy.rank(id)
  if not start then
    local origin = policy.origin or 0
    local tags = redis.call('HMGET', STATE, 'vtime:' .. node, 'newest:' .. node)
    local vtime, newest = tonumber(tags[1] or origin), tonumber(tags[2] or -1)
    start = vtime
    if newest >= vtime then start = newest + TIE * math.max(1, newest * 2 ^ -20) end
    local owed = tonumber(redis.call('ZSCORE', finish(node), id) or policy.measured and redis.call('HGET', owing(node), id) or nil)
    if owed then
      redis.call('ZREM', finish(node), id)
      if policy.measured then redis.call('HDEL', owing(node), id) end
    end
    if owed and owed > start then
      start = owed
    else
      redis.call('HSET', STATE, 'newest:' .. node, start)
    end
  end
  redis.call('ZADD', ready(node), start, id)
end

-- The child whose turn it is and its start tag, or nil.
local function first(node)
  local child = redis.call('ZRANGE', ready(node), 0, 0, 'WITHSCORES')
  return child[1], tonumber(child[2])
end

-- `id` is ready no longer. It keeps its finish tag while others contend: a child that returns must not steal turns.
-- Returns whether the node is left without any that is ready.
local function take_out(node, id, tag)
  redis.call('ZREM', ready(node), id)
  if redis.call('EXISTS', ready(node)) == 0 then
    -- Nobody contends any more: nobody owes a turn either.
    redis.call('DEL', finish(node), owing(node))
    redis.call('HDEL', STATE, 'vtime:' .. node, 'newest:' .. node)
    return true
  end
  local policy = policy_of(node)
  if tag and not (policy.rank and policy.rank(id)) then
    if policy.measured and redis.call('HEXISTS', IN_FLIGHT, subject_of(id)) == 1 then
      -- What its tasks cost is known when they have ended: the tag must be there to be corrected.
      redis.call('HSET', owing(node), id, tag)
    else
      -- Tags that virtual time has passed: their owners would start at virtual time anyway.
      redis.call('ZREMRANGEBYSCORE', finish(node), '-inf', virtual_time(node))
      redis.call('ZADD', finish(node), tag, id)
    end
  end
  return false
end

-- A task of `id` was dispatched from the tag `start`. Returns the finish tag.
local function charge(node, id, start, seconds)
  local policy = policy_of(node)
  if policy.rank and policy.rank(id) then return start end
  -- A corrected tag may lie before virtual time, which never goes back.
  if not policy.measured or start > virtual_time(node) then redis.call('HSET', STATE, 'vtime:' .. node, start) end
  return start + policy.span(id, seconds)
end

-- A task of `id` took `difference` seconds more than it was charged for.
local function correct(node, id, difference)
  local policy = policy_of(node)
  if not policy.measured then return end
  local span = policy.span(id, difference)
  if redis.call('ZSCORE', ready(node), id) then
    redis.call('ZINCRBY', ready(node), span, id)
  elseif redis.call('HEXISTS', owing(node), id) == 1 then
    redis.call('HINCRBYFLOAT', owing(node), id, span)
  elseif redis.call('ZSCORE', finish(node), id) then
    redis.call('ZINCRBY', finish(node), span, id)
  end
end

-- No task of `id` is in flight any more, so its tag is final.
local function settle_tag(node, id)
  local tag = policy_of(node).measured and tonumber(redis.call('HGET', owing(node), id) or nil)
  if not tag then return end
  redis.call('HDEL', owing(node), id)
  local vtime = virtual_time(node)
  redis.call('ZREMRANGEBYSCORE', finish(node), '-inf', vtime)
  if tag > vtime then redis.call('ZADD', finish(node), tag, id) end
end

-- The weight of `id` was `ratio` times what it is. By how much its tag is ahead of virtual time is work it was given in
-- advance: at the new weight that is sooner or later made up for. Else a tenant once held down at 0.01 would wait out 100
-- turns.
local function reweigh(node, id, ratio)
  local policy = policy_of(node)
  if ratio == 1 or policy.rank and policy.rank(id) then return end
  local vtime = virtual_time(node)
  for _, tags in ipairs({ready(node), finish(node)}) do
    local tag = tonumber(redis.call('ZSCORE', tags, id) or nil)
    if tag and tag > vtime then redis.call('ZADD', tags, vtime + (tag - vtime) * ratio, id) end
  end
end

-- Another algorithm: its tags mean something else, so everyone starts anew, in the order of the old tags.
local function restart(node)
  local ids = redis.call('ZRANGE', ready(node), 0, -1)
  redis.call('DEL', ready(node), finish(node), owing(node))
  redis.call('HDEL', STATE, 'vtime:' .. node, 'newest:' .. node)
  for _, id in ipairs(ids) do add(node, id) end
end

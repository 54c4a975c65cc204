-- Weighted round-robin by start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996).
-- A tenant that becomes backlogged starts at max(virtual time, its finish tag); a dispatch sets virtual time to the
-- tenant's start tag and charges finish = start + cost / weight, which is its next start while it stays backlogged.

-- Newcomers of one instant are set this far apart, so that equal tags are served in the order of arrival and not of names.
-- Past 2^20 the distance grows with the tags, so that it is not lost in their rounding.
local TIE = 2 ^ -30

-- Weight set at run time, else from the config, else the config's default, else 1. What is no weight counts as 1: an error
-- here would come after the task has moved.
local function weight_of(tenant)
  local w = redis.call('HMGET', SETTINGS, 'set:weight:' .. tenant, 'weight:' .. tenant, 'default:weight')
  local weight = tonumber(w[1] or w[2] or w[3] or 1)
  return weight and weight > 0 and weight < math.huge and weight or 1
end

-- Raise an error where a key is of another type.
local function policy_check()
  redis.call('ZCARD', READY)
  redis.call('ZCARD', FINISH)
end

-- `tenant` has its first waiting task: give it a place among the ready.
local function policy_activate(tenant)
  local tags = redis.call('HMGET', STATE, 'vtime', 'newest')
  local vtime, newest = tonumber(tags[1] or 0), tonumber(tags[2] or -1)
  local start = vtime
  if newest >= vtime then start = newest + TIE * math.max(1, newest * 2 ^ -20) end
  local finish = tonumber(redis.call('ZSCORE', FINISH, tenant) or 0)
  if finish > start then
    start = finish
  else
    redis.call('HSET', STATE, 'newest', start)
  end
  redis.call('ZREM', FINISH, tenant)
  redis.call('ZADD', READY, start, tenant)
end

-- The tenant whose turn it is and its start tag, or nil.
local function policy_next()
  local first = redis.call('ZRANGE', READY, 0, 0, 'WITHSCORES')
  return first[1], tonumber(first[2])
end

-- `tenant` no longer waits. It keeps its finish tag while others contend; a drained tenant that returns must not steal turns.
local function policy_remove(tenant, finish)
  redis.call('ZREM', READY, tenant)
  if redis.call('EXISTS', READY) == 1 then
    if finish then redis.call('ZADD', FINISH, finish, tenant) end
  else
    -- Nobody contends any more: nobody owes a turn either.
    redis.call('DEL', FINISH)
    redis.call('HDEL', STATE, 'vtime', 'newest')
  end
end

-- `tenant` was dispatched from `start` and has `left` tasks waiting.
local function policy_charge(tenant, start, left)
  redis.call('HSET', STATE, 'vtime', start)
  local finish = start + 1 / weight_of(tenant)
  if left > 0 then
    redis.call('ZADD', READY, finish, tenant)
  else
    policy_remove(tenant, finish)
  end
end

-- `tenant` had the weight `old`. By how much its tag is ahead of virtual time is work it was given in advance: at the new
-- weight that is sooner or later made up for. Else a tenant once held down at 0.01 would wait out 100 turns.
local function policy_reweigh(tenant, old)
  local vtime, ratio = tonumber(redis.call('HGET', STATE, 'vtime') or 0), old / weight_of(tenant)
  for _, tags in ipairs({READY, FINISH}) do
    local tag = tonumber(redis.call('ZSCORE', tags, tenant) or nil)
    if tag and tag > vtime and ratio ~= 1 then redis.call('ZADD', tags, vtime + (tag - vtime) * ratio, tenant) end
  end
end

-- Forget the finish tags that virtual time has passed: their owners would start at virtual time anyway.
local function policy_sweep()
  redis.call('ZREMRANGEBYSCORE', FINISH, '-inf', redis.call('HGET', STATE, 'vtime') or 0)
end

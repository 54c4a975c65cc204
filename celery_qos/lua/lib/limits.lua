-- Pauses, caps and rates. Who may not be served is out of the ready set, parked, and costs no turn.
-- include keys, settings, fair, time, bell, work, totals
local limits = {}

-- A bucket holds what this many seconds bring: sweeps that come late by less lose no tokens.
limits.BUCKET_SECONDS = 0.1
-- How much of a tenant's average the last task makes up.
limits.RECENT = 0.2
-- Averages that are kept; beyond it, those of any tenants go.
limits.MOST_AVERAGES = 10000
-- Seconds that a task is taken to last where nothing is known.
limits.UNKNOWN_SECONDS = 1
-- A task costs this at least: its tenant would have turn after turn for those that take no time that a clock sees.
limits.LEAST_SECONDS = 0.001

function limits.in_flight(id)
  return keys.number(redis.call('HGET', keys.IN_FLIGHT, settings.subject_of(id)), 0, 0, 2 ^ 40)
end

-- How many tokens a bucket holds.
function limits.depth_of(rate)
  return math.max(1, rate * limits.BUCKET_SECONDS)
end

function limits.tokens_of(id, rate, now)
  local depth = limits.depth_of(rate)
  local bucket = redis.call('HGET', keys.TOKENS, settings.subject_of(id))
  if not bucket then return depth end
  local tokens, at = string.match(bucket, '^(%S+) (%S+)$')
  tokens, at = tonumber(tokens), tonumber(at)
  -- Nothing would come in until a clock that was set back is there again.
  if not tokens or not at or at > now then return depth end
  return math.min(depth, tokens + (now - at) / 1000 * rate)
end

-- Until when `id` may not be served, in ms: nil where it may, infinite where only an event changes that.
function limits.blocked(id, lent)
  local options = settings.options_of(id)
  if options.paused then return math.huge end
  if options.max_in_flight and limits.in_flight(id) >= options.max_in_flight + (lent and options.burst or 0) then
    return math.huge
  end
  if options.rate then
    local now = clock.now_ms()
    local tokens = limits.tokens_of(id, options.rate, now)
    -- A little less than one, as the clock counts whole ms.
    if tokens < 0.999 then return now + math.ceil((1 - tokens) / options.rate * 1000) end
  end
  return nil
end

-- The parked `id` may borrow slots.
function limits.offer(id)
  local options = settings.options_of(id)
  if options.max_in_flight and options.burst and not options.paused then
    redis.call('ZADD', keys.LENDABLE, limits.in_flight(id) - options.max_in_flight, id)
  end
end

-- Out of the ready set until `due`.
function limits.park(id, due)
  if due < math.huge then
    local earliest = redis.call('ZRANGE', keys.PARKED, 0, 0, 'WITHSCORES')[2]
    if not earliest or due < tonumber(earliest) then bell.ring() end
  end
  if redis.call('ZADD', keys.PARKED, due == math.huge and 'inf' or due, id) == 1 then
    totals.count('throttled', keys.split(id) or id)
  end
  limits.offer(id)
end

-- The last of `ids` has tasks that may be served: a place among the ready for it, and for those above it.
function limits.make_ready(ids)
  for i = #ids, 1, -1 do
    local node, id = settings.node_of(ids, i), ids[i]
    if i < #ids then
      if redis.call('ZSCORE', keys.ready(node), id) then return end
      -- It may have been found to have nothing to borrow slots for.
      if redis.call('ZSCORE', keys.PARKED, id) then return limits.offer(id) end
    end
    fair.add(node, id)
  end
end

-- Whether other tenants are inside the tenant `id`: then its own tasks, if any, are one of its children.
function limits.is_inner(id)
  if not settings.is_nested() or redis.call('HEXISTS', keys.WAITING, id) == 0 then return false end
  return redis.call('EXISTS', unpack(keys.tenant_streams(id))) == 0
end

-- Something changed for `id`: where it was parked, it contends again. When its turn comes and nothing helped, it is
-- parked anew.
function limits.unpark(id)
  if redis.call('ZREM', keys.PARKED, id) == 0 then return end
  redis.call('ZREM', keys.LENDABLE, id)
  limits.contend(id)
end

-- A place among the ready for `id`, where it has tasks and none yet.
function limits.contend(id)
  local sub, path = keys.split(id)
  local ids = path and settings.ids_of(sub, path) or {id}
  if redis.call('HEXISTS', keys.WAITING, id) == 0 then return end
  if redis.call('ZSCORE', keys.ready(settings.node_of(ids, #ids)), id) then return end
  if redis.call('EXISTS', keys.ready(id)) == 1 or path and not limits.is_inner(id) then limits.make_ready(ids) end
end

-- Those whose time has come, some at a time.
function limits.unpark_due(at_most)
  local due = redis.call('ZRANGEBYSCORE', keys.PARKED, '-inf', clock.now_ms(), 'LIMIT', 0, at_most)
  for _, id in ipairs(due) do limits.unpark(id) end
  work.take(#due * work.UNPARK)
end

-- All that are parked contend again, some at each call (lib/moving.lua).
function limits.wake_all()
  if redis.call('EXISTS', keys.PARKED) == 1 then redis.call('RENAME', keys.PARKED, keys.WOKEN) end
end

function limits.take_token(id, rate)
  local now = clock.now_ms()
  local tokens = limits.tokens_of(id, rate, now) - 1
  redis.call('HSET', keys.TOKENS, settings.subject_of(id), string.format('%.6f %d', tokens, now))
  -- A full bucket is as good as none.
  local full_in = math.ceil((limits.depth_of(rate) - tokens) / rate * 1000)
  if redis.call('PTTL', keys.TOKENS) < full_in then redis.call('PEXPIRE', keys.TOKENS, full_in) end
end

-- The seconds that a task of the tenant will take, as far as is known.
function limits.estimate(sub, path)
  if limits.is_own(path) then path = string.sub(path, 1, -2) end
  local found = redis.call('HMGET', keys.AVERAGES, 'tenant:' .. path, 'sub:' .. sub)
  return keys.number(found[1] or found[2], limits.UNKNOWN_SECONDS, 0, 2 ^ 40)
end

function limits.learn(subject, seconds)
  local average = tonumber(redis.call('HGET', keys.AVERAGES, subject) or nil)
  if not average and redis.call('HLEN', keys.AVERAGES) >= limits.MOST_AVERAGES then
    redis.call('HDEL', keys.AVERAGES, unpack(redis.call('HRANDFIELD', keys.AVERAGES, 10)))
  end
  average = average and average + limits.RECENT * (seconds - average) or seconds
  redis.call('HSET', keys.AVERAGES, subject, string.format('%.6f', average))
end

-- Whether it is the child that stands for the own tasks of a tenant with others inside.
function limits.is_own(id)
  return string.sub(id, -1) == keys.PART
end

-- A task of the last of `ids` is dispatched: it takes a token and a place in flight where these are counted.
-- Returns, where its end has to be reported, the seconds that it is taken to last.
function limits.occupy(ids)
  local capped, measured = false, false
  for i, id in ipairs(ids) do
    local options = settings.options_of(id)
    if options.rate then limits.take_token(id, options.rate) end
    capped = capped or options.max_in_flight
    measured = measured or fair.policy_of(settings.node_of(ids, i)).measured
  end
  if not capped and not measured then return nil end
  local sub, path = keys.split(ids[#ids])
  -- Whatever the tree looks like when the task ends, it counts for its sub-queue, and for its tenant and not for a
  -- child that stands for the tenant's own tasks.
  if settings.queue.top ~= keys.ROOT then keys.add(keys.IN_FLIGHT, settings.subject_of(sub), 1) end
  for _, id in ipairs(ids) do
    if not limits.is_own(id) then keys.add(keys.IN_FLIGHT, settings.subject_of(id), 1) end
  end
  return measured and limits.estimate(sub, path) or 0
end

-- One less of the subject is in flight. Returns how many are.
function limits.one_less(subject)
  local left = keys.add(keys.IN_FLIGHT, subject, -1)
  if left <= 0 then redis.call('HDEL', keys.IN_FLIGHT, subject) end
  return left
end

-- The ids of a tenant, in all sub-queues, that are parked.
function limits.parked_of(path)
  local ids, found = settings.ids_of_tenant(path), {}
  for i, score in ipairs(redis.call('ZMSCORE', keys.PARKED, unpack(ids))) do
    if score then found[#found + 1] = ids[i] end
  end
  return found
end

-- A task that was tracked is in flight no more. `cost`: what it was charged for; `seconds`: what it took, nil where
-- nobody knows.
function limits.vacate(sub, path, cost, seconds)
  local ids = settings.ids_of(sub, path)
  if cost and seconds then
    seconds = math.max(limits.LEAST_SECONDS, seconds)
    limits.learn('tenant:' .. path, seconds)
    limits.learn('sub:' .. sub, seconds)
    for i, id in ipairs(ids) do fair.correct(settings.node_of(ids, i), id, seconds - cost) end
  end
  if settings.queue.top ~= keys.ROOT then limits.one_less(settings.subject_of(sub)) end
  for _, id in ipairs(ids) do
    local left, options = limits.one_less(settings.subject_of(id)), settings.options_of(id)
    local _, whole = keys.split(id)
    if left <= 0 and settings.queue.measured then
      for _, each in ipairs(whole and settings.ids_of_tenant(whole) or {id}) do
        fair.settle_tag(settings.node_above(each), each)
      end
    end
    if options.max_in_flight then
      for _, each in ipairs(whole and limits.parked_of(whole) or {id}) do
        if left < options.max_in_flight then
          limits.unpark(each)
        elseif redis.call('ZSCORE', keys.PARKED, each) then
          limits.offer(each)
        end
      end
    end
  end
end

-- As `vacate`, for the fields of an entry that nobody will run.
function limits.vacate_entry(fields)
  local entry = {}
  for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
  if entry.tracked then limits.vacate(entry.sub or '', entry.tenant or '') end
end

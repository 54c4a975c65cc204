-- Pauses, caps and rates. Who may not be served is out of the ready set, parked, and costs no turn.
-- include keys, settings, fair, time

-- A bucket holds what this many seconds bring: sweeps that come late by less lose no tokens.
local BUCKET_SECONDS = 0.1
-- How much of a tenant's average the last task makes up.
local RECENT = 0.2
-- Averages that are kept; beyond it, those of any tenants go.
local MOST_AVERAGES = 10000
-- Seconds that a task is taken to last where nothing is known.
local UNKNOWN_SECONDS = 1

-- Some tenant may have others inside. Read with the slots.
local nested = false
-- The sweep tells its caller what is due, so it need not ring.
local rings = true

-- Whether there is more to ask than whose turn it is.
local function is_guarded(id)
  local options = options_of(id)
  return options.paused or options.max_in_flight or options.rate
end

local function in_flight(id)
  return tonumber(redis.call('HGET', IN_FLIGHT, subject_of(id)) or 0)
end

local function tokens_of(id, rate, now)
  local depth, bucket = math.max(1, rate * BUCKET_SECONDS), redis.call('HGET', TOKENS, subject_of(id))
  if not bucket then return depth end
  local tokens, at = string.match(bucket, '^(%S+) (%S+)$')
  return math.min(depth, (tonumber(tokens) or depth) + (now - (tonumber(at) or now)) / 1000 * rate)
end

-- Until when `id` may not be served, in ms: nil where it may, infinite where only an event changes that.
local function blocked(id, lent)
  local options = options_of(id)
  if options.paused then return math.huge end
  if options.max_in_flight and in_flight(id) >= options.max_in_flight + (lent and options.burst or 0) then
    return math.huge
  end
  if options.rate then
    local now = now_ms()
    local tokens = tokens_of(id, options.rate, now)
    -- A little less than one, as the clock counts whole ms.
    if tokens < 0.999 then return now + math.ceil((1 - tokens) / options.rate * 1000) end
  end
  return nil
end

-- Out of the ready set until `due`.
local function park(id, due)
  if rings and due < math.huge then
    local earliest = redis.call('ZRANGE', PARKED, 0, 0, 'WITHSCORES')[2]
    if not earliest or due < tonumber(earliest) then
      redis.call('DEL', BELL)
      redis.call('RPUSH', BELL, 1)
    end
  end
  redis.call('ZADD', PARKED, due == math.huge and 'inf' or due, id)
  local options = options_of(id)
  if options.max_in_flight and options.burst and not options.paused then
    redis.call('ZADD', LENDABLE, in_flight(id) - options.max_in_flight, id)
  end
end

-- The last of `ids` has tasks that may be served: a place among the ready for it, and for those above it.
local function make_ready(ids)
  for i = #ids, 1, -1 do
    local node, id = node_of(ids, i), ids[i]
    if i < #ids and (redis.call('ZSCORE', ready(node), id) or redis.call('ZSCORE', PARKED, id)) then return end
    add(node, id)
  end
end

-- Whether other tenants are inside the tenant `id`: then its own tasks, if any, are one of its children.
local function is_inner(id)
  if not nested or redis.call('HEXISTS', WAITING, id) == 0 then return false end
  local streams = {}
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do streams[#streams + 1] = tenant_stream(id, priority) end
  return redis.call('EXISTS', unpack(streams)) == 0
end

-- Something changed for `id`: where it was parked, it contends again. When its turn comes and nothing helped, it is parked anew.
local function unpark(id)
  if redis.call('ZREM', PARKED, id) == 0 then return end
  redis.call('ZREM', LENDABLE, id)
  local sub, path = split(id)
  local ids = path and ids_of(sub, path) or {id}
  if redis.call('HEXISTS', WAITING, id) == 0 or redis.call('ZSCORE', ready(node_of(ids, #ids)), id) then return end
  if redis.call('EXISTS', ready(id)) == 1 or path and not is_inner(id) then make_ready(ids) end
end

-- Those whose time has come, some at a time.
local function unpark_due(at_most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', PARKED, '-inf', now_ms(), 'LIMIT', 0, at_most)) do unpark(id) end
end

local function take_token(id, rate)
  local now, depth = now_ms(), math.max(1, rate * BUCKET_SECONDS)
  local tokens = tokens_of(id, rate, now) - 1
  redis.call('HSET', TOKENS, subject_of(id), string.format('%.6f %d', tokens, now))
  -- A full bucket is as good as none.
  local full_in = math.ceil((depth - tokens) / rate * 1000)
  if redis.call('PTTL', TOKENS) < full_in then redis.call('PEXPIRE', TOKENS, full_in) end
end

-- The seconds that a task of the tenant will take, as far as is known.
local function estimate(sub, path)
  local known = redis.call('HMGET', AVERAGES, 'tenant:' .. path, 'sub:' .. sub)
  return tonumber(known[1] or known[2] or UNKNOWN_SECONDS)
end

local function learn(subject, seconds)
  local average = tonumber(redis.call('HGET', AVERAGES, subject) or nil)
  if not average and redis.call('HLEN', AVERAGES) >= MOST_AVERAGES then
    redis.call('HDEL', AVERAGES, unpack(redis.call('HRANDFIELD', AVERAGES, 10)))
  end
  redis.call('HSET', AVERAGES, subject, string.format('%.6f', average and average + RECENT * (seconds - average) or seconds))
end

-- The children that stand for a tenant's own tasks are not counted: when a task ends, its tenant may have no others inside.
local function is_own(id)
  return string.sub(id, -1) == PART
end

-- A task of the last of `ids` is dispatched: it takes a token and a place in flight where these are counted.
-- Returns, where its end has to be reported, the seconds that it is taken to last.
local function occupy(ids)
  local capped, measured = false, false
  for i, id in ipairs(ids) do
    local options = options_of(id)
    if options.rate then take_token(id, options.rate) end
    capped = capped or options.max_in_flight
    measured = measured or policy_of(node_of(ids, i)).measured
  end
  if not capped and not measured then return nil end
  for _, id in ipairs(ids) do
    if not is_own(id) then redis.call('HINCRBY', IN_FLIGHT, subject_of(id), 1) end
  end
  local sub, path = split(ids[#ids])
  return measured and estimate(sub, path) or 0
end

-- A task that was tracked is in flight no more. `cost`: what it was charged for; `seconds`: what it took, nil where nobody knows.
local function vacate(sub, path, cost, seconds)
  local ids = ids_of(sub, path)
  if cost and seconds then
    learn('tenant:' .. path, seconds)
    learn('sub:' .. sub, seconds)
    for i, id in ipairs(ids) do correct(node_of(ids, i), id, seconds - cost) end
  end
  for i, id in ipairs(ids) do
    local left = redis.call('HINCRBY', IN_FLIGHT, subject_of(id), -1)
    if left <= 0 then
      redis.call('HDEL', IN_FLIGHT, subject_of(id))
      settle_tag(node_of(ids, i), id)
    end
    local options = options_of(id)
    if options.max_in_flight then
      local _, whole = split(id)
      for _, each in ipairs(whole and ids_of_tenant(whole) or {id}) do
        if left < options.max_in_flight then
          unpark(each)
        elseif options.burst and redis.call('ZSCORE', PARKED, each) then
          redis.call('ZADD', LENDABLE, left - options.max_in_flight, each)
        end
      end
    end
  end
end

-- As `vacate`, for the fields of an entry that nobody will run.
local function vacate_entry(fields)
  local entry = {}
  for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
  if entry.tracked then vacate(entry.sub or '', entry.tenant or '') end
end

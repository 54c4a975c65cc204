-- Put a task into its tenant's stream, or among the delayed ones, and dispatch.
-- KEYS: namespace. ARGV: tenant, priority (0 is served first), the message's id or '', for how many ms that is remembered,
-- details as a JSON object or '' for none, then the entry's fields and values. Details: `named`, the sub-queue it names;
-- `percent`, its priority; `exempt` where no capacity limits it; `id`, the task's; `due`, in ms.
-- Returns egress where the task went straight there, waits where it had to queue up, dropped where the tenant's oldest
-- had to go for it, delayed, expired, seen where the message was published before; or {'full', on_full, sub-queue,
-- capacity} where it was not taken; {'unknown', sub-queues...} where there is no such sub-queue;
-- {'schema', version} where the queue is stored by another release.
-- include names, seen
local tenant, priority, message, window = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Append the entry, of priority 0 unless it says so. Returns its id, which tells the time.
local function append(stream)
  if priority ~= '0' then ARGV[#ARGV + 1], ARGV[#ARGV + 2] = 'priority', priority end
  return redis.call('XADD', stream, '*', unpack(ARGV, 6))
end

if seen.before(message, window) then return redis.status_reply('seen') end
local state = {}

-- Append the entry to the tenant's stream, and count it. Returns its id.
local function queue_up()
  local id = append(keys.tenant_stream(':' .. tenant, priority))
  keys.add(keys.WAITING, ':' .. tenant, '1')
  keys.add(keys.STATE, 'waiting', '1')
  return id
end

-- The task is in the entry `id`.
local function remember(id, outcome)
  local published = seen.remember(message, window, string.match(id, '^%d+'), state[3])
  if published ~= state[3] then redis.call('HSET', keys.STATE, 'published', published) end
  return redis.status_reply(outcome)
end

-- The fast path. In a plain queue, a task that queues up behind others of its tenant changes nothing else; one that
-- finds a free slot and nobody waiting goes there. Returns nil where it does neither.
local function put_plainly()
  if redis.call('HEXISTS', keys.WAITING, ':' .. tenant) == 1 then return remember(queue_up(), 'waits') end
  if tonumber(state[2] or 0) > redis.call('XLEN', keys.EGRESS) and redis.call('EXISTS', keys.READY .. ':') == 0 then
    return remember(append(keys.EGRESS), 'egress')
  end
end

if ARGV[5] == '' and ARGV[6] ~= 'expires' and not string.find(tenant, keys.PART, 1, true) then
  state = redis.call('HMGET', keys.STATE, 'plain', 'slots', 'published')
  local reply = state[1] == 'even' and put_plainly()
  if reply then return reply end
end
-- include settings, fair
if state[1] == 'optioned' then
  local options = settings.options_of(':' .. tenant)
  local limited = options.capacity or settings.guards(options)
  local reply = not limited and put_plainly()
  if reply then return reply end
  if limited then state[1] = false end
end
if state[1] and tonumber(state[2] or 0) <= redis.call('XLEN', keys.EGRESS) then
  -- It is the first of its tenant to wait.
  redis.call('ZCARD', keys.READY .. ':')
  redis.call('ZCARD', keys.FINISH .. ':')
  local id = queue_up()
  settings.load_settings()
  fair.add('', ':' .. tenant)
  return remember(id, 'waits')
end
-- include egress, ingress, discarded, plain
local details, fields = ARGV[5] ~= '' and cjson.decode(ARGV[5]) or {}, {unpack(ARGV, 6)}
local named, percent, due = details.named or '', details.percent, details.due
priority = tonumber(priority)
settings.load_settings(tenant)
if settings.queue.schema and settings.queue.schema ~= keys.SCHEMA then return {'schema', settings.queue.schema} end
if settings.queue.leaving and redis.call('EXISTS', keys.WAITING) == 0 then
  redis.call('HSET', keys.SETTINGS, 'top', 'tenants')
  settings.load_settings(tenant)
end

local sub = ingress.sub_queue(tenant, named, percent)
if not sub then return {'unknown', unpack(settings.sub_queues())} end
local ids = settings.ids_of(sub, tenant)
local free, guarded, bounded = egress.free_slots(), settings.queue.measured, false
for _, id in ipairs(ids) do
  guarded = guarded or settings.is_guarded(id)
  bounded = bounded or settings.options_of(id).capacity
end

-- The task was taken care of.
local function done(outcome)
  local published = seen.remember(message, window, clock.now_ms())
  if not state[1] and (outcome == 'egress' or outcome == 'waits') then plain.note(published) end
  return redis.status_reply(outcome)
end

if discarded.is_expired(fields) then
  discarded.add('expired', fields, sub)
  return done('expired')
end
if due and due <= clock.now_ms() then due = nil end
if not due and free > 0 and not guarded and redis.call('EXISTS', keys.ready(settings.queue.top)) == 0
    and redis.call('HEXISTS', keys.WAITING, ids[1]) == 0 then
  -- Nobody waits, so nobody is overtaken and no turn is owed: the task's own stream would be a detour.
  ingress.mark(fields, sub, priority)
  egress.append(fields)
  return done('egress')
end
if not due and free <= 0 and not bounded and not settings.is_nested() and not string.find(tenant, keys.PART, 1, true)
    and redis.call('HEXISTS', keys.WAITING, ids[#ids]) == 1 then
  -- It queues up behind others of its tenant: nothing else changes.
  ingress.mark(fields, sub, priority)
  ingress.append(ids, priority, fields)
  return done('waits')
end
-- include fair, limits, dispatch, admit, delayed, dead

-- Remove the oldest of the least urgent tasks of `ids`.
local function drop_oldest(ids)
  for each = keys.LOWEST_PRIORITY, keys.HIGHEST_PRIORITY, -1 do
    local stream = keys.tenant_stream(ids[#ids], each)
    local count = keys.stream_length(stream)
    if count > 0 then
      -- A trimmed stream stays, an empty one must not.
      if count > 1 then redis.call('XTRIM', stream, 'MAXLEN', count - 1) else redis.call('DEL', stream) end
      dispatch.discount(ids, 1)
      return
    end
  end
end

-- A key of another type raises before the task is written: its publisher is told that it was not.
ids = admit.ids_of(sub, tenant)
if due then redis.call('ZCARD', keys.DELAYED) else fair.check_types(ids) end
local no_room = not details.exempt and admit.full(ids)
local drops = no_room and no_room.on_full == 'drop-oldest'
  and (due or redis.call('HEXISTS', keys.WAITING, ids[#ids]) == 1)
if no_room then
  local what = no_room.on_full or 'reject'
  if what == 'drop-oldest' and not drops then what = 'reject' end
  if not (drops and due) then redis.call('HINCRBY', keys.SETTINGS, 'count:' .. what .. ':' .. sub, 1) end
  if not drops then
    if what == 'dead-letter' then
      ingress.mark(fields, sub, priority)
      dead.add('full', fields)
      seen.remember(message, window, clock.now_ms())
    end
    return {'full', what, sub, no_room.capacity}
  end
end
if due then
  delayed.add(details.id or '', due, {
    due = due, tenant = tenant, priority = priority, named = named, percent = percent, fields = fields})
  return done('delayed')
end

ingress.mark(fields, sub, priority)
admit.join(ids, priority, fields)
if drops then drop_oldest(ids) end
if free > 0 and dispatch.is_allowed() then
  -- The task is there: an error that keeps others from being dispatched is for the sweep to tell.
  pcall(dispatch.fill, free)
elseif free > 0 then
  -- A user who must not read tasks leaves that to a sweep.
  bell.ring()
end
return done(drops and 'dropped' or 'waits')

-- Dispatch in a plain queue (see lib/plain.lua): all turns of a call at once, from what is read at once. It does what
-- lib/dispatch.lua does for any queue, in 3 to 6 commands a task in place of 12, and writes nothing before it knows that
-- it can: whatever is out of the ordinary is left to that.
-- include names
local turns = {}

-- Of the one node that a plain queue has.
local READY, FINISH = keys.READY .. ':', keys.FINISH .. ':'

-- How many tasks one call moves; the rest is for lib/dispatch.lua.
turns.MOST = 50

-- Those who may be served next, in the order of their turns: as many as there are `free` slots, for no more can be.
-- `settings`: lib/settings.lua where something is said of tenants, else nil. Returns nil where one has a limit.
local function candidates_of(free, settings)
  local ready, found = redis.call('ZRANGE', READY, '0', free - 1, 'WITHSCORES'), {}
  local ids, fields = {}, {'default', 'set:default'}
  for i = 1, #ready, 2 do
    ids[#ids + 1] = ready[i]
    fields[#fields + 1] = 'tenant' .. ready[i]
    fields[#fields + 1] = 'set:tenant' .. ready[i]
  end
  if #ids == 0 then return found end
  local waiting = redis.call('HMGET', keys.WAITING, unpack(ids))
  local options = settings and redis.call('HMGET', keys.SETTINGS, unpack(fields))
  for i, id in ipairs(ids) do
    local weight = 1
    if options then
      local own = settings.tenant_options(options[2 * i + 1], options[2 * i + 2], options[1], options[2])
      if settings.guards(own) then return nil end
      weight = settings.weight_in(own)
    end
    found[i] = {id = id, tag = tonumber(ready[2 * i]), span = 1 / weight, waiting = tonumber(waiting[i] or nil), turns = 0}
    if not found[i].waiting then return nil end
  end
  return found
end

-- Start-time fair queueing, as lib/fair.lua has it, among `candidates`, which are in order. Returns whose turns they
-- are, one after the other, and the virtual time then.
local function play(candidates, free)
  local played, head, tail, vtime = {}, 1, #candidates, 0
  while #played < free and head <= tail do
    local one = candidates[head]
    vtime = one.tag
    one.turns = one.turns + 1
    one.tag = one.tag + one.span
    played[#played + 1] = one
    if one.turns == one.waiting then
      head = head + 1
    else
      local at = head
      while at < tail and (candidates[at + 1].tag < one.tag
          or candidates[at + 1].tag == one.tag and candidates[at + 1].id < one.id) do
        candidates[at] = candidates[at + 1]
        at = at + 1
      end
      candidates[at] = one
    end
  end
  return played, vtime
end

-- Read the tasks of its turns. Returns false where something is odd: a key of another type, an account that is wrong, an
-- entry that is none of ours or has expired.
local function read(one)
  one.entries, one.streams = {}, {}
  local rest = one.waiting - one.turns
  for priority = keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY do
    local wanted = one.turns - #one.entries
    if wanted == 0 then break end
    local stream = keys.tenant_stream(one.id, priority)
    local found = redis.pcall('XRANGE', stream, '-', '+', 'COUNT', wanted)
    if found.err then return false end
    if #found > 0 then
      one.streams[#one.streams + 1] = {key = stream, taken = #found, length = redis.call('XLEN', stream)}
      for _, entry in ipairs(found) do
        local fields = entry[2]
        if #fields > keys.MOST_VALUES or fields[1] == 'expires' then return false end
        one.entries[#one.entries + 1] = entry
      end
    end
  end
  local last = one.streams[#one.streams]
  return #one.entries == one.turns and last.length - last.taken <= rest
end

-- Move the tasks of `played` to egress.
local function move(played)
  local next_of, egress = {}, keys.EGRESS
  for _, one in ipairs(played) do
    next_of[one] = (next_of[one] or 0) + 1
    local entry = one.entries[next_of[one]]
    local fields = entry[2]
    fields[#fields + 1] = 'enqueued'
    fields[#fields + 1] = entry[1]
    redis.call('XADD', egress, '*', unpack(fields))
  end
  for one in pairs(next_of) do
    for _, stream in ipairs(one.streams) do
      -- What was taken is the oldest of it. A trimmed stream stays, an empty one must not.
      if stream.taken == stream.length then
        redis.call('DEL', stream.key)
      else
        redis.call('XTRIM', stream.key, 'MAXLEN', stream.length - stream.taken)
      end
    end
    if one.turns == one.waiting then
      redis.call('HDEL', keys.WAITING, one.id)
    else
      redis.call('HINCRBY', keys.WAITING, one.id, 0 - one.turns)
    end
  end
  keys.add(keys.STATE, 'waiting', 0 - #played)
  return next_of
end

-- Who was served pays; who has no tasks left is ready no longer.
local function pay(served, vtime)
  local ready, finish, gone, left = {}, {}, {}, {}
  for one in pairs(served) do
    local tags = one.turns == one.waiting and left or ready
    tags[#tags + 1] = one.tag
    tags[#tags + 1] = one.id
    if tags == left then gone[#gone + 1] = one.id end
  end
  if #ready > 0 then redis.call('ZADD', READY, unpack(ready)) end
  if #gone > 0 then redis.call('ZREM', READY, unpack(gone)) end
  if #ready == 0 and redis.call('EXISTS', READY) == 0 then
    redis.call('DEL', FINISH)
    redis.call('HDEL', keys.STATE, 'vtime:', 'newest:')
    return
  end
  redis.call('HSET', keys.STATE, 'vtime:', vtime)
  if #left > 0 then
    redis.call('ZREMRANGEBYSCORE', FINISH, '-inf', vtime)
    redis.call('ZADD', FINISH, unpack(left))
  end
end

-- Fill the free ones of `slots`. Returns whether that is all there is to do.
function turns.fill(slots, settings)
  local all_free = (tonumber(slots or nil) or 0) - redis.call('XLEN', keys.EGRESS)
  local free = math.min(all_free, turns.MOST)
  if free <= 0 then return true end
  local candidates = candidates_of(free, settings)
  if not candidates or #candidates == 0 then return false end
  local played, vtime = play(candidates, free)
  for _, one in ipairs(played) do
    if not one.entries and not read(one) then return false end
  end
  pay(move(played), vtime)
  return #played == all_free
end

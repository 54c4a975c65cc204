-- Whether the accounts of tenants are right, and whether each that has tasks will have its turn.
-- KEYS: namespace. ARGV: look, mend, or forget, which deletes accounts of tenants that hold nothing; then tenants' ids,
-- for forget each followed by the account that it had.
-- Returns of each that is looked at {its account or -1 for none, tasks in its streams, 1 where it has no turn else 0, 1
-- where others are inside, 0 where none are, -1 where that would take too long to tell}; for forget, how many were
-- deleted.
-- The accounts of what a tenant is in are for totals.lua.
-- include keys, settings, fair, limits, dispatch, moving
settings.load_settings()
local what = ARGV[1]

local function count_of(id)
  local streams, count = keys.tenant_streams(id), 0
  -- Nearly all have one.
  local left = redis.call('EXISTS', unpack(streams))
  for _, stream in ipairs(streams) do
    if left == 0 then break end
    local length = keys.stream_length(stream)
    if length > 0 then left = left - 1 end
    count = count + length
  end
  return count
end

-- The place in `ids` of the one that neither contends nor is held, or nil. While settings change, that says nothing.
local function misplaced(ids)
  if moving.is_under_way() then return nil end
  for i = #ids, 1, -1 do
    if redis.call('ZSCORE', keys.PARKED, ids[i]) then return nil end
    if not redis.call('ZSCORE', keys.ready(settings.node_of(ids, i)), ids[i]) then return i end
  end
end

-- It has nothing: neither an account nor a turn.
local function forget(ids)
  local id = ids[#ids]
  redis.call('HDEL', keys.WAITING, id)
  redis.call('ZREM', keys.PARKED, id)
  redis.call('ZREM', keys.WOKEN, id)
  redis.call('ZREM', keys.LENDABLE, id)
  if redis.call('ZSCORE', keys.ready(settings.node_of(ids, #ids)), id) then dispatch.leave(ids, #ids, {}) end
end

-- Accounts, and tenants that a limit holds, that one call goes through.
local MOST_LOOKED_THROUGH = 1000

-- Of tenants' ids, whether others are inside each: true, false, or nil where that would take too long to tell.
local function with_others_inside(ids)
  local found, asked = {}, false
  for _, id in ipairs(ids) do
    found[id] = redis.call('EXISTS', keys.ready(id), keys.aside('ready', id)) > 0
    asked = asked or not found[id]
  end
  if not asked then return found end
  -- Children that limits hold are in no order of turns; all have an account.
  local names
  if redis.call('HLEN', keys.WAITING) <= MOST_LOOKED_THROUGH then
    names = redis.call('HKEYS', keys.WAITING)
  elseif redis.call('ZCARD', keys.PARKED) + redis.call('ZCARD', keys.WOKEN) <= MOST_LOOKED_THROUGH then
    names = redis.call('ZRANGE', keys.PARKED, 0, -1)
    for _, name in ipairs(redis.call('ZRANGE', keys.WOKEN, 0, -1)) do names[#names + 1] = name end
  else
    for _, id in ipairs(ids) do found[id] = found[id] or nil end
    return found
  end
  for _, name in ipairs(names) do
    local part = string.find(name, keys.PART, 1, true)
    while part do
      local id = string.sub(name, 1, part - 1)
      if found[id] == false then found[id] = true end
      part = string.find(name, keys.PART, part + 1, true)
    end
  end
  return found
end

local function mend(ids, count)
  redis.call('HSET', keys.WAITING, ids[#ids], count)
  -- Those above it have an account each, or they would have no turn; totals.lua counts them.
  for i = 1, #ids - 1 do redis.call('HSETNX', keys.WAITING, ids[i], count) end
  local i = misplaced(ids)
  if i then limits.make_ready({unpack(ids, 1, i)}) end
end

local found = {}
if what ~= 'look' then egress.allow_when_full() end
if what == 'forget' then
  local ids, deleted = {}, 0
  for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
  local inside = with_others_inside(ids)
  for i, id in ipairs(ids) do
    local sub, path = keys.split(id)
    -- Who has come since is counted in the account.
    if path and inside[id] == false and redis.call('HGET', keys.WAITING, id) == ARGV[2 * i + 1] and count_of(id) == 0 then
      forget(settings.ids_of(sub, path))
      deleted = deleted + 1
    end
  end
  found = deleted
else
  local empty = {}
  for i = 2, #ARGV do
    local id = ARGV[i]
    local sub, path = keys.split(id)
    local account, count = keys.whole(redis.call('HGET', keys.WAITING, id), -1, -1, 2 ^ 52), count_of(id)
    local ids = settings.ids_of(sub, path)
    local lost = count > 0 and misplaced(ids)
    found[i - 1] = {account, count, lost and 1 or 0, 0}
    if account >= 0 and count == 0 then empty[#empty + 1] = id end
    if what == 'mend' and count > 0 and (account ~= count or lost) then mend(ids, count) end
  end
  local inside = with_others_inside(empty)
  for i, row in ipairs(found) do
    local id = ARGV[i + 1]
    if row[1] >= 0 and row[2] == 0 then row[4] = inside[id] and 1 or inside[id] == false and 0 or -1 end
  end
end
if what ~= 'look' then
  redis.call('HDEL', keys.STATE, 'plain')
  if dispatch.is_allowed() then dispatch.fill() end
  egress.forget_idle()
end
return found

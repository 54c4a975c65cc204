-- Whether the accounts of tenants are right, and whether each that has tasks will have its turn.
-- KEYS: namespace. ARGV: look, mend, or forget, which deletes accounts of tenants that hold nothing; then tenants' ids,
-- for forget each followed by the account that it had.
-- Returns of each that is looked at {its account or -1 for none, tasks in its streams, 1 where it has no turn else 0}.
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
  for i = 2, #ARGV, 2 do
    local id = ARGV[i]
    local sub, path = keys.split(id)
    -- Who has come since is counted in the account.
    if path and redis.call('HGET', keys.WAITING, id) == ARGV[i + 1] and count_of(id) == 0
        and redis.call('EXISTS', keys.ready(id)) == 0 then
      forget(settings.ids_of(sub, path))
    end
  end
else
  for i = 2, #ARGV do
    local id = ARGV[i]
    local sub, path = keys.split(id)
    local account, count = keys.whole(redis.call('HGET', keys.WAITING, id), -1, -1, 2 ^ 52), count_of(id)
    local ids = settings.ids_of(sub, path)
    local lost = count > 0 and misplaced(ids)
    found[#found + 1] = {account, count, lost and 1 or 0}
    if what == 'mend' and count > 0 and (account ~= count or lost) then mend(ids, count) end
  end
end
if what ~= 'look' then
  redis.call('HDEL', keys.STATE, 'plain')
  if dispatch.is_allowed() then dispatch.fill() end
  egress.forget_idle()
end
return found

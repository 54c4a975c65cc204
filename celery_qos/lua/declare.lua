-- Check the schema version and store the config's settings.
-- KEYS: namespace. ARGV: schema version, fingerprint of the config or '' for none, its structure as JSON, 1 to have
-- that prevail over another one at work else 0, then fields and values.
-- Returns {the stored schema version, streams of egress to read, 1 where there is more to do (fill.lua), -1 where another
-- change has to be over before: the caller comes again}, or these and the stored structure where it contradicts.
-- include change
settings.load_settings()
local schema, fingerprint, structure, force = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local stored = redis.call('HMGET', keys.SETTINGS, 'schema', 'config', 'structure')
if stored[1] and stored[1] ~= schema then return {stored[1], 1, 0} end
egress.allow_when_full()
if not stored[1] then redis.call('HSET', keys.SETTINGS, 'schema', schema) end
if fingerprint == '' or stored[2] == fingerprint then return {schema, settings.queue.shards, 0} end
-- A user who must not read tasks leaves the config to the workers too.
if not dispatch.is_allowed() then return {schema, settings.queue.shards, 0} end

if stored[3] and stored[3] ~= structure and not force then
  local used = redis.call('EXISTS', keys.LEASES, keys.WAITING, keys.DELAYED)
  for stream = 0, settings.queue.shards - 1 do used = used + redis.call('XLEN', keys.egress(stream)) end
  if used > 0 then return {schema, settings.queue.shards, 0, stored[3]} end
end

if change.must_wait() then return {schema, settings.queue.shards, -1} end
local new, old, ids, whole = {}, {}, {}, {}
for i = 5, #ARGV, 2 do new[ARGV[i]] = ARGV[i + 1] end
-- What was set at run time stays; what an older config said goes.
local configured = {queue = true, default = true, order = true, tenant = true, sub = true, rank = true}
local flat, former, optioned = redis.call('HGETALL', keys.SETTINGS), {}, new.default
for i = 1, #flat, 2 do
  local field = flat[i]
  if configured[string.match(field, '^[^:]*')] then
    old[field] = flat[i + 1]
    former[#former + 1] = field
  end
  optioned = optioned or field == 'set:default' or string.find(field, '^set:tenant:')
end
local default_changed = old.default ~= new.default
for _, fields in ipairs({new, old}) do
  for field in pairs(fields) do
    if old[field] ~= new[field] then
      local path, name = string.match(field, '^tenant:(.*)$'), string.match(field, '^sub:(.*)$')
      if path then
        local to = string.find(path, keys.PART, 1, true) and ids or whole
        for _, id in ipairs(settings.ids_of_tenant(path)) do to[#to + 1] = id end
      elseif name then
        ids[#ids + 1] = name
      end
    end
  end
end
-- The options that they had, where they are too many for one call.
local former_options
if #whole > change.FEW then
  former_options = {}
  for i, id in ipairs(whole) do
    local _, path = keys.split(id)
    former_options[2 * i - 1], former_options[2 * i] = id, old['tenant:' .. path] or ''
  end
else
  for _, id in ipairs(whole) do ids[#ids + 1] = id end
end
local weights = change.weights_of(change.there(ids))
local before, top, every = change.algorithms(), settings.queue.top, settings.every_sub_queue()

local default = default_changed and {old.default or false, redis.call('HGET', keys.SETTINGS, 'set:default')}
change.in_parts(former, function(from, upto) redis.call('HDEL', keys.SETTINGS, unpack(former, from, upto)) end)
redis.call('HSET', keys.SETTINGS, 'config', fingerprint, 'structure', structure)
local stored_now = {}
for field, value in pairs(new) do
  stored_now[#stored_now + 1] = field
  stored_now[#stored_now + 1] = value
  optioned = optioned or string.find(field, '^tenant:')
end
change.store(stored_now)
if optioned then
  redis.call('HSET', keys.SETTINGS, 'optioned', 1)
else
  redis.call('HDEL', keys.SETTINGS, 'optioned')
end
change.rank('sub', settings.merged(new.queue).queues)
change.rank('tenant', settings.decoded(new.order))
change.derive(every)
change.adopt_root(top)
local function order(fields)
  return cjson.encode({settings.merged(fields.queue).queues or 0, fields.order or 0})
end
change.take_effect(weights, before, order(old) ~= order(new), default, former_options)
return {schema, settings.queue.shards, moving.is_left()}

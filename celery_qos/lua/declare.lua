-- Check the schema version and store the config's settings.
-- KEYS: namespace. ARGV: schema version, fingerprint of the config or '' for none, its structure as JSON, 1 to have that
-- prevail over another one at work else 0, then fields and values.
-- Returns {the stored schema version, streams of egress to read}, or these and the stored structure where it contradicts.
-- include keys, settings, fair, limits, dispatch, workers, change
load_settings()
local schema, fingerprint, structure, force = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local stored = redis.call('HMGET', SETTINGS, 'schema', 'config', 'structure')
if stored[1] and stored[1] ~= schema then return {stored[1], 1} end
allow_when_full()
if not stored[1] then redis.call('HSET', SETTINGS, 'schema', schema) end
if fingerprint == '' or stored[2] == fingerprint then return {schema, QUEUE.shards} end

if stored[3] and stored[3] ~= structure and not force then
  local used = redis.call('EXISTS', LEASES, WAITING)
  for stream = 0, QUEUE.shards - 1 do used = used + redis.call('XLEN', egress(stream)) end
  if used > 0 then return {schema, QUEUE.shards, stored[3]} end
end
free_slots()

local settings, old, ids = {}, {}, {}
for i = 5, #ARGV, 2 do settings[ARGV[i]] = ARGV[i + 1] end
-- What was set at run time stays; what an older config said goes.
for _, field in ipairs(redis.call('HKEYS', SETTINGS)) do
  if field == 'queue' or field == 'default' or string.find(field, '^tenant:') or string.find(field, '^sub:')
      or string.find(field, '^rank:') then
    old[field] = redis.call('HGET', SETTINGS, field)
  end
end
local default_changed = old.default ~= settings.default
for _, fields in ipairs({settings, old}) do
  for field in pairs(fields) do
    if old[field] ~= settings[field] then
      local path, name = string.match(field, '^tenant:(.*)$'), string.match(field, '^sub:(.*)$')
      if path then
        for _, id in ipairs(ids_of_tenant(path)) do ids[#ids + 1] = id end
      elseif name then
        ids[#ids + 1] = name
      end
    end
  end
end
local weights = weights_of(default_changed and contenders() or ids)
if default_changed then
  for id, weight in pairs(weights_of(ids)) do weights[id] = weight end
end
local before, top = algorithms(), QUEUE.top

for field in pairs(old) do redis.call('HDEL', SETTINGS, field) end
redis.call('HSET', SETTINGS, 'config', fingerprint, 'structure', structure)
for field, value in pairs(settings) do redis.call('HSET', SETTINGS, field, value) end
local queue = merged(settings.queue)
rank('sub', queue.queues)
rank('tenant', queue.tenants)
derive()
adopt_root(top)
restart_changed(before)
apply(weights)
if default_changed then unpark_all() end
dispatch()
forget_idle()
return {schema, QUEUE.shards}

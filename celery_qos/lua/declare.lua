-- Check the schema version and store the config's settings.
-- KEYS: namespace. ARGV: schema version, fingerprint of the config or '' for none, then fields and values.
-- Returns the schema version that is stored.
-- include keys, policy, workers
local schema, fingerprint = ARGV[1], ARGV[2]
local stored = redis.call('HMGET', SETTINGS, 'schema', 'config', 'default:weight')
if stored[1] and stored[1] ~= schema then return stored[1] end
allow_when_full()
if not stored[1] then redis.call('HSET', SETTINGS, 'schema', schema) end
if fingerprint == '' or stored[2] == fingerprint then return schema end

local settings, old_fields, old_weights = {}, {}, {}
for i = 3, #ARGV, 2 do settings[ARGV[i]] = ARGV[i + 1] end
-- What was set at run time stays; what an older config said goes.
for _, field in ipairs(redis.call('HKEYS', SETTINGS)) do
  if string.find(field, '^weight:') or string.find(field, '^default:') then old_fields[field] = true end
end

-- The weights of the tenants that the change may touch.
for _, fields in ipairs({settings, old_fields}) do
  for field in pairs(fields) do
    local tenant = string.match(field, '^weight:(.*)$')
    if tenant then old_weights[tenant] = weight_of(tenant) end
  end
end
if tonumber(stored[3] or 1) ~= tonumber(settings['default:weight'] or 1) then
  for _, tags in ipairs({READY, FINISH}) do
    for _, tenant in ipairs(redis.call('ZRANGE', tags, 0, -1)) do old_weights[tenant] = weight_of(tenant) end
  end
end

for field in pairs(old_fields) do redis.call('HDEL', SETTINGS, field) end
redis.call('HSET', SETTINGS, 'config', fingerprint)
for field, value in pairs(settings) do redis.call('HSET', SETTINGS, field, value) end
for tenant, weight in pairs(old_weights) do policy_reweigh(tenant, weight) end
return schema

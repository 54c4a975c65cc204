-- Check the schema version and store the config's settings.
-- KEYS: namespace. ARGV: schema version, fingerprint of the config or '' for none, then fields and values.
-- Returns the schema version that is stored.
-- include keys
local schema, fingerprint = ARGV[1], ARGV[2]
local stored = redis.call('HMGET', SETTINGS, 'schema', 'config')
if stored[1] and stored[1] ~= schema then return stored[1] end
if not stored[1] then redis.call('HSET', SETTINGS, 'schema', schema) end
if fingerprint ~= '' and stored[2] ~= fingerprint then
  -- What was set at run time stays; what an older config said goes.
  for _, field in ipairs(redis.call('HKEYS', SETTINGS)) do
    if string.find(field, '^weight:') or string.find(field, '^default:') then redis.call('HDEL', SETTINGS, field) end
  end
  redis.call('HSET', SETTINGS, 'config', fingerprint)
  for i = 3, #ARGV, 2 do redis.call('HSET', SETTINGS, ARGV[i], ARGV[i + 1]) end
end
return schema

-- Set a tenant's weight at run time.
-- KEYS: namespace. ARGV: tenant, weight or '' for what the config says.
-- include keys, policy
local tenant, weight = ARGV[1], ARGV[2]
local old = weight_of(tenant)
if weight == '' then
  redis.call('HDEL', SETTINGS, 'set:weight:' .. tenant)
else
  redis.call('HSET', SETTINGS, 'set:weight:' .. tenant, weight)
end
policy_reweigh(tenant, old)

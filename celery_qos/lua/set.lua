-- Change options at run time.
-- KEYS: namespace. ARGV: what they are of (queue, default, sub:name, tenant:path), then names and values as JSON, ''
-- for what the config says. Returns 1, or 0 where there is no such sub-queue.
-- include change
settings.load_settings()
local of = ARGV[1]
local path, name = string.match(of, '^tenant:(.*)$'), string.match(of, '^sub:(.*)$')
if name and redis.call('HEXISTS', keys.SETTINGS, of) == 0 then return 0 end
local reweighs = false
for i = 2, #ARGV, 2 do reweighs = reweighs or ARGV[i] == 'weight' end
local ids = {}
if path then
  ids = settings.ids_of_tenant(path)
elseif name then
  ids = {name}
elseif of == 'default' and reweighs then
  -- Any number of tenants, so not where their weights stay.
  ids = change.contenders()
end
local weights, before = change.weights_of(ids), change.algorithms()

local overrides = settings.decoded(redis.call('HGET', keys.SETTINGS, 'set:' .. of) or nil) or {}
for i = 2, #ARGV, 2 do
  local option, value = ARGV[i], ARGV[i + 1]
  if value == '' then overrides[option] = nil else overrides[option] = cjson.decode('[' .. value .. ']')[1] end
end
if next(overrides) then
  redis.call('HSET', keys.SETTINGS, 'set:' .. of, cjson.encode(overrides))
else
  redis.call('HDEL', keys.SETTINGS, 'set:' .. of)
end
if path or of == 'default' then
  redis.call('HSET', keys.SETTINGS, 'optioned', 1)
else
  change.derive(settings.every_sub_queue())
end
change.take_effect(weights, before, false, of == 'default')
return 1

-- Change options at run time.
-- KEYS: namespace. ARGV: what they are of (queue, default, sub:name, tenant:path), then names and values as JSON, ''
-- for what the config says. Returns {1, 1 where there is more to do (fill.lua)}, {0} where there is no such sub-queue,
-- {-1} where another change has to be over before: the caller comes again.
-- include change
settings.load_settings()
local of = ARGV[1]
local path, name = string.match(of, '^tenant:(.*)$'), string.match(of, '^sub:(.*)$')
if name and redis.call('HEXISTS', keys.SETTINGS, of) == 0 then return {0} end
if change.must_wait() then return {-1} end
local ids = {}
if path then
  ids = settings.ids_of_tenant(path)
elseif name then
  ids = {name}
end
local weights, before = change.weights_of(ids), change.algorithms()

local default = of == 'default' and redis.call('HMGET', keys.SETTINGS, 'default', 'set:default')
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
change.take_effect(weights, before, false, default)
return {1, moving.is_left()}

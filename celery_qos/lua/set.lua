-- Change options at run time.
-- KEYS: namespace. ARGV: what they are of (queue, default, sub:name, tenant:path), then names and values as JSON, '' for what the
-- config says. Returns 1, or 0 where there is no such sub-queue.
-- include keys, settings, fair, limits, dispatch, workers, change
load_settings()
free_slots()
local of = ARGV[1]
local path, name = string.match(of, '^tenant:(.*)$'), string.match(of, '^sub:(.*)$')
if name and redis.call('HEXISTS', SETTINGS, of) == 0 then return 0 end
local ids = {}
if path then ids = ids_of_tenant(path) elseif name then ids = {name} elseif of == 'default' then ids = contenders() end
local weights, before, top = weights_of(ids), algorithms(), QUEUE.top

local overrides = decoded(redis.call('HGET', SETTINGS, 'set:' .. of) or nil) or {}
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then overrides[ARGV[i]] = nil else overrides[ARGV[i]] = cjson.decode('[' .. ARGV[i + 1] .. ']')[1] end
end
if next(overrides) then
  redis.call('HSET', SETTINGS, 'set:' .. of, cjson.encode(overrides))
else
  redis.call('HDEL', SETTINGS, 'set:' .. of)
end
if not path and of ~= 'default' then derive() end
restart_changed(before)
apply(weights)
if of == 'default' then unpark_all() end
dispatch()
forget_idle()
return 1

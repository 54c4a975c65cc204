-- Put delivered tasks among the dead letters.
-- KEYS: namespace. ARGV: the reason, then names of egress entries. Returns how many were there.
-- include keys, settings, fair, limits, dispatch, dead
settings.load_settings()
egress.allow_when_full()
local buried = 0
for i = 2, #ARGV do
  local stream, id = egress.place_of(ARGV[i])
  local key = keys.egress(stream)
  local entry = redis.call('XRANGE', key, id, id)[1]
  if entry then dead.add(ARGV[1], entry[2]) end
  redis.call('XACK', key, keys.GROUP, id)
  if entry then
    redis.call('XDEL', key, id)
    limits.vacate_entry(entry[2])
    buried = buried + 1
  end
end
if buried > 0 then
  dispatch.fill()
  egress.forget_idle()
end
return buried

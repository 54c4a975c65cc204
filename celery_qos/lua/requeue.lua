-- Put delivered tasks back into egress, marked redelivered, or among the dead letters where that was too often in vain.
-- KEYS: namespace. ARGV: 1 where the deliveries count as failed, else 0; then names of egress entries.
-- Returns {how many went back, how many died}.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
egress.allow_when_full()
local moved, died = 0, 0
for i = 2, #ARGV do
  local stream, id = egress.place_of(ARGV[i])
  local back, buried = workers.redeliver(stream, id, tonumber(ARGV[1]))
  moved, died = moved + back, died + buried
end
work.take((#ARGV - 1) * work.REDELIVER)
if died > 0 then
  dispatch.fill()
  egress.forget_idle()
end
return {moved, died}

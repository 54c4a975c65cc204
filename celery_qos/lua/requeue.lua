-- Put delivered tasks back into egress, marked redelivered.
-- KEYS: namespace. ARGV: 1 where the deliveries count as failed, else 0; then names of egress entries.
-- Returns how many went back.
-- include keys, settings, egress, workers
settings.load_settings()
local moved = 0
for i = 2, #ARGV do
  local stream, id = egress.place_of(ARGV[i])
  moved = moved + workers.redeliver(stream, id, tonumber(ARGV[1]))
end
return moved

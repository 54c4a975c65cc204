-- Put delivered tasks back into egress, marked redelivered.
-- KEYS: namespace. ARGV: 1 where the deliveries count as failed, else 0; then ids of egress entries.
-- Returns how many went back.
-- include keys, workers
local moved = 0
for i = 2, #ARGV do moved = moved + redeliver(ARGV[i], tonumber(ARGV[1])) end
return moved

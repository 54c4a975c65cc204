-- A consumer reconnects: what it was sent but does not hold any more (the reply was lost, or it dropped the task) is
-- delivered again, not counted as a failed delivery.
-- KEYS: namespace. ARGV: consumer, then the ids it still holds. Returns how many went back.
-- include keys, workers
local held = {}
for i = 2, #ARGV do held[ARGV[i]] = true end
local moved, from = 0, '-'
if group() then
  repeat
    local entries = redis.call('XPENDING', EGRESS, GROUP, from, '+', BATCH, ARGV[1])
    for _, entry in ipairs(entries) do
      from = '(' .. entry[1]
      if not held[entry[1]] then moved = moved + redeliver(entry[1], 0) end
    end
  until #entries < BATCH
end
return moved

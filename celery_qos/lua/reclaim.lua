-- A consumer reconnects: what it was sent but does not hold any more (the reply was lost, or it dropped the task) is
-- delivered again, not counted as a failed delivery.
-- KEYS: namespace. ARGV: consumer, then the names of the entries it still holds. Returns how many went back.
-- include keys, settings, workers
settings.load_settings()
local held = {}
for i = 2, #ARGV do held[ARGV[i]] = true end
local moved = 0
for stream in pairs(egress.groups()) do
  local from, entries = '-', nil
  repeat
    entries = redis.call('XPENDING', keys.egress(stream), keys.GROUP, from, '+', workers.BATCH, ARGV[1])
    for _, entry in ipairs(entries) do
      from = '(' .. entry[1]
      if not held[egress.entry_name(stream, entry[1])] then moved = moved + workers.redeliver(stream, entry[1], 0) end
    end
  until #entries < workers.BATCH
end
return moved

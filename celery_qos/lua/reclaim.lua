-- A consumer reconnects: what it was sent but does not hold any more (the reply was lost, or it dropped the task) is
-- delivered again, not counted as a failed delivery. So many entries at a time; the caller comes again until it was all.
-- KEYS: namespace. ARGV: consumer, the name of the entry after which to go on or '', then the names of the entries it
-- still holds. Returns {how many went back, the name of the last entry that was looked at or '' where that was all}.
-- include keys, settings, workers
settings.load_settings()
local held = {}
for i = 3, #ARGV do held[ARGV[i]] = true end
local stream, from = egress.place_of(ARGV[2])
if ARGV[2] == '' then from = '-' else from = '(' .. from end
while stream < settings.queue.shards do
  if egress.group(stream) then
    local entries = redis.call('XPENDING', keys.egress(stream), keys.GROUP, from, '+', workers.BATCH, ARGV[1])
    local moved = 0
    for _, entry in ipairs(entries) do
      if not held[egress.entry_name(stream, entry[1])] then moved = moved + workers.redeliver(stream, entry[1], 0) end
    end
    if #entries > 0 then return {moved, egress.entry_name(stream, entries[#entries][1])} end
  end
  stream, from = stream + 1, '-'
end
return {0, ''}

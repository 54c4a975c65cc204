-- The queue at a glance; writes nothing.
-- KEYS: namespace. Returns {now in ms, algorithm, slots, tasks that egress may hold, tasks in egress, slots that are free though a task might have
-- them, waiting, delayed, dead, accounts of who has waiting tasks, parked, [consumer, slots, delivered, end of its lease in
-- ms, and so on]}.
-- include keys, settings, egress, time
settings.load_settings()
local free, in_egress = egress.free_slots(), 0
for stream = 0, settings.queue.shards - 1 do in_egress = in_egress + egress.lengths[stream] end
local slots, delivered, consumers = keys.whole(redis.call('HGET', keys.STATE, 'slots'), 0, 0, 2 ^ 40), {}, {}
local waiting = keys.whole(redis.call('HGET', keys.STATE, 'waiting'), 0, 0, 2 ^ 40)
local wanted = redis.call('EXISTS', keys.ready(settings.queue.top)) == 1
for stream in pairs(egress.groups()) do
  for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', keys.egress(stream), keys.GROUP)) do
    delivered[row[2]] = (delivered[row[2]] or 0) + row[4]
  end
end
local leases = redis.call('ZRANGE', keys.LEASES, 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  local name = leases[i]
  consumers[#consumers + 1] = name
  consumers[#consumers + 1] = keys.whole(redis.call('HGET', keys.SLOTS, name), 0, 0, 2 ^ 40)
  consumers[#consumers + 1] = delivered[name] or 0
  consumers[#consumers + 1] = tonumber(leases[i + 1])
end
return {clock.now_ms(), settings.queue.algorithm, slots, math.min(slots, settings.queue.capacity or slots), in_egress,
  wanted and math.max(0, math.min(free, waiting)) or 0,
  waiting, redis.call('ZCARD', keys.DELAYED), keys.stream_length(keys.DEAD), redis.call('HLEN', keys.WAITING),
  redis.call('ZCARD', keys.PARKED), consumers}

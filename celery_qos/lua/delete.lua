-- Delete what is left of a purged queue, its settings and dead letters included.
-- KEYS: namespace. ARGV: 1 where only an unused queue may go, else 0. Returns 1, or 0 where workers consume from it.
-- include keys, settings
load_settings()
if ARGV[1] == '1' and redis.call('EXISTS', SLOTS) == 1 then return 0 end
-- A task that was published since the purge goes too: its stream would outlive the accounts and never be served.
for _, id in ipairs(redis.call('HKEYS', WAITING)) do
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do redis.call('UNLINK', tenant_stream(id, priority)) end
  redis.call('DEL', ready(id), finish(id), owing(id))
end
for _, consumer in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do redis.call('DEL', running(consumer)) end
for stream = 0, QUEUE.shards - 1 do redis.call('DEL', egress(stream)) end
for _, node in ipairs({ROOT, ''}) do redis.call('DEL', ready(node), finish(node), owing(node)) end
redis.call('DEL', SETTINGS, LEASES, SLOTS, STATE, WAITING, PARKED, LENDABLE, IN_FLIGHT, TOKENS, AVERAGES, DEAD, SWEEPERS, BELL,
  TRANSIENT)
return 1

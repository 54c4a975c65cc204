-- Delete what is left of a purged queue, its settings and dead letters included.
-- KEYS: namespace. ARGV: 1 where only an unused queue may go, else 0. Returns 1, or 0 where workers consume from it.
-- include keys, settings, waits
settings.load_settings()
if ARGV[1] == '1' and redis.call('EXISTS', keys.SLOTS) == 1 then return 0 end
-- A task that was published since the purge goes too: its stream would outlive the accounts and never be served.
for _, id in ipairs(redis.call('HKEYS', keys.WAITING)) do
  redis.call('UNLINK', unpack(keys.tenant_streams(id)))
  redis.call('DEL', keys.ready(id), keys.finish(id), keys.owing(id))
end
for _, consumer in ipairs(redis.call('ZRANGE', keys.LEASES, 0, -1)) do redis.call('DEL', keys.running(consumer)) end
for stream = 0, settings.queue.shards - 1 do redis.call('DEL', keys.egress(stream)) end
for _, node in ipairs({keys.ROOT, ''}) do redis.call('DEL', keys.ready(node), keys.finish(node), keys.owing(node)) end
keys.forget_moving()
waits.forget()
redis.call('UNLINK', keys.SETTINGS, keys.LEASES, keys.SLOTS, keys.STATE, keys.WAITING, keys.PARKED, keys.LENDABLE,
  keys.IN_FLIGHT, keys.TOKENS, keys.AVERAGES, keys.DEAD, keys.SWEEPERS, keys.BELL, keys.TRANSIENT, keys.DELAYED,
  keys.DELAYED_TASKS, keys.DISCARDED, keys.PUBLISHED .. ':0', keys.PUBLISHED .. ':1')
return 1

-- Delete what is left of a purged queue, its settings included.
-- KEYS: namespace. ARGV: 1 where only an unused queue may go, else 0. Returns 1, or 0 where workers consume from it.
-- include keys
if ARGV[1] == '1' and redis.call('EXISTS', SLOTS) == 1 then return 0 end
-- A task that was published since the purge goes too: its stream would outlive the accounts and never be served.
for _, tenant in ipairs(redis.call('HKEYS', WAITING)) do
  for priority = HIGHEST_PRIORITY, LOWEST_PRIORITY do redis.call('UNLINK', tenant_stream(tenant, priority)) end
end
redis.call('DEL', SETTINGS, EGRESS, LEASES, SLOTS, STATE, READY, FINISH, WAITING, TRANSIENT)
return 1

-- Delete tasks that wait in tenants' own streams, not those of the tenants inside them.
-- KEYS: namespace. ARGV: ids of tenants in the scheduling tree (sub-queue:path). Returns how many tasks.
-- include keys, settings, fair, emptied, workers
settings.load_settings()
fair.check_types()
egress.allow_when_full()
local purged = 0
for _, id in ipairs(ARGV) do purged = purged + (emptied.tenant(id) or 0) end
egress.forget_idle()
return purged

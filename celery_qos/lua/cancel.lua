-- Cancel delayed tasks.
-- KEYS: namespace. ARGV: task ids. Returns those that were there.
-- include keys, settings, egress, delayed, discarded
settings.load_settings()
-- A key of another type raises before anything is written.
redis.call('ZCARD', keys.DELAYED)
egress.allow_when_full()
local cancelled = {}
for _, id in ipairs(ARGV) do
  local tasks = delayed.all(id)
  for _, task in ipairs(tasks) do
    discarded.add('revoked', task.fields)
    delayed.remove(task.place)
  end
  if #tasks > 0 then cancelled[#cancelled + 1] = id end
end
egress.forget_idle()
return cancelled

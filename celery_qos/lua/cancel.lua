-- Cancel delayed tasks.
-- KEYS: namespace. ARGV: task ids. Returns those that were there.
-- include keys, settings, egress, delayed, discarded
settings.load_settings()
local cancelled = {}
for _, id in ipairs(ARGV) do
  local tasks = delayed.take_all(id)
  for _, task in ipairs(tasks) do discarded.add('revoked', task.fields) end
  if #tasks > 0 then cancelled[#cancelled + 1] = id end
end
egress.forget_idle()
return cancelled

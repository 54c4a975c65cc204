-- The delayed tasks of an id; writes nothing.
-- KEYS: namespace. ARGV: the id. Returns of each {place, due time in ms, tenant, sub-queue it names, field, value...}.
-- include keys, delayed
local found = {}
for _, task in ipairs(delayed.all(ARGV[1])) do
  found[#found + 1] = {task.place, string.format('%d', task.due), task.tenant, task.named, unpack(task.fields)}
end
return found

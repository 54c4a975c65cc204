-- The delayed tasks, the earliest first.
-- KEYS: namespace. ARGV: the place and the due time in ms after which to go on, both '' for the first ones; how many.
-- Returns of each {place, due time in ms, tenant, sub-queue it names, field, value...}.
-- include keys, delayed
local rank = redis.call('ZRANK', keys.DELAYED, ARGV[1])
local from = rank and rank + 1 or 0
if not rank and ARGV[2] ~= '' then
  -- It is gone meanwhile: after it come those of its time with a higher number.
  from = redis.call('ZCOUNT', keys.DELAYED, '-inf', '(' .. ARGV[2])
  local upto = redis.call('ZCOUNT', keys.DELAYED, '-inf', ARGV[2])
  while from < upto do
    local middle = math.floor((from + upto) / 2)
    if redis.call('ZRANGE', keys.DELAYED, middle, middle)[1] < ARGV[1] then from = middle + 1 else upto = middle end
  end
end
local found = {}
for _, place in ipairs(redis.call('ZRANGE', keys.DELAYED, from, from + tonumber(ARGV[3]) - 1)) do
  local task = delayed.at(place)
  if task then
    found[#found + 1] = {place, string.format('%d', task.due), task.tenant, task.named, unpack(task.fields)}
  end
end
return found

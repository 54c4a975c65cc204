-- Delayed tasks without a due time, as that was deleted by hand: nobody would look at them again.
-- KEYS: namespace. ARGV: 1 to mend else 0, then ids that tasks are delayed under. Returns how many there were.
-- include keys, delayed
local found, mend = 0, ARGV[1] == '1'
for i = 2, #ARGV do
  for _, task in ipairs(delayed.all(ARGV[i])) do
    if not redis.call('ZSCORE', keys.DELAYED, task.place) then
      found = found + 1
      if mend then redis.call('ZADD', keys.DELAYED, task.due, task.place) end
    end
  end
end
if mend and found > 0 then bell.ring() end
return found

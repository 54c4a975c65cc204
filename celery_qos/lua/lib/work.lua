-- How much one call of a script does. Redis serves nobody else meanwhile, so what is left is for the next call.
local work = {}

-- Units, of about 50 us on the machine of the benchmarks: what a call may do in all.
work.MOST = 40
-- What it may have done by the end of the part that runs now: each part gets its share.
work.limit = work.MOST
work.done = 0

-- What an act costs, in units.
work.DISPATCH, work.LEVEL, work.LEND, work.PARK, work.PASS, work.EXPIRE = 1, 0.7, 2.5, 0.5, 0.2, 2
work.UNPARK, work.PLACE, work.REDELIVER, work.VACATE, work.DUE, work.PURGE = 0.5, 0.5, 0.5, 1, 2, 2

-- As many acts of this cost as there is room for.
function work.room(cost)
  return math.max(0, math.floor((work.limit - work.done) / cost))
end

function work.take(cost)
  work.done = work.done + cost
end

function work.is_over()
  return work.done >= work.limit
end

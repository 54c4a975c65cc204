-- One iteration of a sweep loop, the safety net for what no event announces: leases that ended, delayed tasks that are
-- due, tokens that came in.
-- KEYS: namespace. ARGV: lease in ms, the sweeper's name.
-- Returns {0} where as many others sweep as shall; else {1, tasks moved, ms until something is due or -1, blank
-- iterations before a pause, ms of the pause, discarded tasks that Celery is to be told of, then consumer, tasks
-- delivered again, tasks that became dead letters, 1 where that was all for each whose lease had ended}.
-- include keys, settings, fair, limits, dispatch, workers, admit, delayed, moving
settings.load_settings()
local lease, sweeper, now = tonumber(ARGV[1]), ARGV[2], clock.now_ms()
egress.allow_when_full()
bell.silent = true
-- About how many bytes of delayed tasks one call moves, so that it stays short.
local MOST_BYTES = 2 ^ 20
-- What is done by the end of each part, in units of lib/work.lua.
local RECOVERED, MOVED, DUE = 15, 24, 32

local loops = redis.call('HMGET', keys.SETTINGS, 'workers', 'idle_threshold', 'idle_timeout')
redis.call('ZREMRANGEBYSCORE', keys.SWEEPERS, '-inf', now)
local sweeps, others = redis.call('ZSCORE', keys.SWEEPERS, sweeper), redis.call('ZCARD', keys.SWEEPERS)
if not sweeps and others >= keys.number(loops[1], 1, 1, 2 ^ 40) then return {0} end
redis.call('ZADD', keys.SWEEPERS, now + lease, sweeper)

local reply, moved = {}, 0
work.limit = RECOVERED
for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', keys.LEASES, '-inf', now, 'LIMIT', 0, 10)) do
  if work.is_over() then break end
  local back, done, died = workers.recover(consumer, 1)
  moved = moved + back
  reply[#reply + 1] = consumer
  reply[#reply + 1] = back
  reply[#reply + 1] = died
  reply[#reply + 1] = done and 1 or 0
end
local in_egress = 0
-- A consumer that reads before it notices that its lease has ended holds tasks without a lease: grant it one to lose.
for stream = 0, settings.queue.shards - 1 do
  if redis.call('EXISTS', keys.egress(stream)) == 1 then
    egress.ensure_groups()
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', keys.egress(stream), keys.GROUP)) do
      if each[4] > 0 then redis.call('ZADD', keys.LEASES, 'NX', now + lease, each[2]) end
    end
    in_egress = in_egress + redis.call('XLEN', keys.egress(stream))
  end
end
-- The accounts of what is in flight are of tasks that are somewhere: with none, they were left behind by a deletion by
-- hand.
if in_egress == 0 and redis.call('EXISTS', keys.IN_FLIGHT) == 1 then
  local any = false
  for _, consumer in ipairs(redis.call('ZRANGE', keys.LEASES, 0, -1)) do
    any = any or redis.call('EXISTS', keys.running(consumer)) == 1
  end
  if not any and not moving.is_under_way() then
    redis.call('DEL', keys.IN_FLIGHT)
    limits.wake_all()
  end
end
work.limit = MOVED
if moving.go_on() then moved = moved + 1 end
limits.unpark_due(work.room(work.UNPARK))
work.limit = DUE
fair.check_types()
local bytes = 0
for _, place in ipairs(delayed.due(now, work.room(work.DUE))) do
  if bytes > MOST_BYTES then break end
  local task, size = delayed.at(place)
  bytes = bytes + (size or 0)
  if task then
    -- It waits since then, however late the sweep is: all workers may have been away.
    task.fields[#task.fields + 1] = 'due'
    task.fields[#task.fields + 1] = string.format('%d', task.due)
  end
  -- A key that is no stream takes no task: an error here would stop all that are due.
  if task and not admit.again(task.tenant, task.priority, task.named, task.percent, task.fields) then
    dead.add('malformed: the key of its stream holds something else', task.fields)
  end
  delayed.remove(place)
  work.take(work.DUE)
  moved = moved + 1
end
work.limit = work.MOST
moved = moved + dispatch.fill() + dispatch.expired + (dispatch.more and 1 or 0)
local due = -1
for _, times in ipairs({keys.LEASES, keys.PARKED, keys.DELAYED}) do
  local time = tonumber(redis.call('ZRANGE', times, 0, 0, 'WITHSCORES')[2] or nil)
  if time and time < math.huge and (due < 0 or time - now < due) then due = math.max(0, time - now) end
end
egress.forget_idle()
return {1, moved, due, keys.whole(loops[2], 1, 1, 2 ^ 31), math.floor(keys.number(loops[3], 10, 0, 2 ^ 31) * 1000),
  redis.call('XLEN', keys.DISCARDED), unpack(reply)}

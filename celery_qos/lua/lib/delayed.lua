-- Tasks that wait for their time.
-- Each has a place in the set of due times: a number, so that those of one time keep their order, and the task's id. The
-- id leads to what was published under it, which may be more than one message.
-- include keys, bell
local delayed = {}

local function tasks_of(id)
  local packed = redis.call('HGET', keys.DELAYED_TASKS, id)
  local ok, tasks = pcall(cmsgpack.unpack, packed or '')
  return ok and type(tasks) == 'table' and tasks or {}
end

local function keep(id, tasks)
  if #tasks > 0 then
    redis.call('HSET', keys.DELAYED_TASKS, id, cmsgpack.pack(tasks))
  else
    redis.call('HDEL', keys.DELAYED_TASKS, id)
  end
end

-- `task`: a table of numbers and text.
function delayed.add(id, due, task)
  local first = redis.call('ZRANGE', keys.DELAYED, 0, 0, 'WITHSCORES')[2]
  task.place = string.format('%015d:', redis.call('HINCRBY', keys.STATE, 'delayed', 1)) .. id
  local tasks = tasks_of(id)
  tasks[#tasks + 1] = task
  keep(id, tasks)
  redis.call('ZADD', keys.DELAYED, due, task.place)
  if not first or due < tonumber(first) then bell.ring() end
end

-- The places of those that are due, at most so many, the earliest first.
function delayed.due(now, most)
  return redis.call('ZRANGEBYSCORE', keys.DELAYED, '-inf', now, 'LIMIT', 0, most)
end

-- The task at `place`, or nil where it was deleted by hand.
function delayed.at(place)
  for i, task in ipairs(tasks_of(string.sub(place, 17))) do
    if task.place == place then return task, i end
  end
end

-- As `at`; it is there no more.
function delayed.take(place)
  redis.call('ZREM', keys.DELAYED, place)
  local task, i = delayed.at(place)
  if task then
    local id = string.sub(place, 17)
    local tasks = tasks_of(id)
    table.remove(tasks, i)
    keep(id, tasks)
  end
  return task
end

-- Take all that were published under `id`.
function delayed.take_all(id)
  local tasks = tasks_of(id)
  for _, task in ipairs(tasks) do redis.call('ZREM', keys.DELAYED, task.place) end
  redis.call('HDEL', keys.DELAYED_TASKS, id)
  return tasks
end

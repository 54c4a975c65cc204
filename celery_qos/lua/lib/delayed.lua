-- Tasks that wait for their time.
-- Each has a place in the set of due times: a number, so that those of one time keep their order, and the task's id. What
-- was published under an id, which may be more than one message, is numbered from 1 without gaps. To add one reads none:
-- a publisher need not have the right to.
-- include keys, bell
local delayed = {}

local function field(id, n)
  return n .. ':' .. id
end

local function id_of(place)
  return string.sub(place, 17)
end

-- All that were published under `id`, or nothing where somebody wrote something else there.
local function tasks_of(id)
  local tasks = {}
  while true do
    local packed = redis.call('HGET', keys.DELAYED_TASKS, field(id, #tasks + 1))
    if not packed then return tasks end
    local ok, task = pcall(cmsgpack.unpack, packed)
    tasks[#tasks + 1] = ok and type(task) == 'table' and task or {}
  end
end

-- `task`: a table of numbers and text.
function delayed.add(id, due, task)
  local n = 1
  task.place = string.format('%015d:', redis.call('HINCRBY', keys.STATE, 'delayed', 1)) .. id
  local packed = cmsgpack.pack(task)
  while redis.call('HSETNX', keys.DELAYED_TASKS, field(id, n), packed) == 0 do n = n + 1 end
  redis.call('ZADD', keys.DELAYED, due, task.place)
  if redis.call('ZRANK', keys.DELAYED, task.place) == 0 then bell.ring() end
end

-- The places of those that are due, at most so many, the earliest first.
function delayed.due(now, most)
  return redis.call('ZRANGEBYSCORE', keys.DELAYED, '-inf', now, 'LIMIT', 0, most)
end

-- The task at `place`, or nil where it was deleted by hand.
function delayed.at(place)
  for _, task in ipairs(tasks_of(id_of(place))) do
    if task.place == place then return task end
  end
end

-- As `at`; it is there no more.
function delayed.take(place)
  redis.call('ZREM', keys.DELAYED, place)
  local id = id_of(place)
  local tasks = tasks_of(id)
  for n, task in ipairs(tasks) do
    if task.place == place then
      if n < #tasks then redis.call('HSET', keys.DELAYED_TASKS, field(id, n), cmsgpack.pack(tasks[#tasks])) end
      redis.call('HDEL', keys.DELAYED_TASKS, field(id, #tasks))
      return task
    end
  end
end

-- Take all that were published under `id`.
function delayed.take_all(id)
  local tasks = tasks_of(id)
  for n, task in ipairs(tasks) do
    if task.place then redis.call('ZREM', keys.DELAYED, task.place) end
    redis.call('HDEL', keys.DELAYED_TASKS, field(id, n))
  end
  return tasks
end

-- Tasks that wait for their time.
-- Each has a place in the set of due times: a number, so that those of one time keep their order, and the task's id. What
-- was published under an id, which may be more than one message, is numbered from 1 without gaps. To add one reads none:
-- a publisher need not have the right to.
-- include keys, bell, dead
local delayed = {}

local function field(id, n)
  return n .. ':' .. id
end

local function id_of(place)
  return string.sub(place, 17)
end

-- Whether `task` is what `add` keeps: others may have written here too.
local function is_one(task)
  if type(task) ~= 'table' or type(task.place) ~= 'string' or #task.place < 16 then return false end
  if type(task.tenant) ~= 'string' or type(task.named) ~= 'string' or type(task.due) ~= 'number'
      or task.percent and type(task.percent) ~= 'number' or type(task.fields) ~= 'table' then return false end
  if type(task.priority) ~= 'number' or math.floor(task.priority) ~= task.priority
      or task.priority < keys.HIGHEST_PRIORITY or task.priority > keys.LOWEST_PRIORITY then return false end
  local count = #task.fields
  if count == 0 or count % 2 == 1 or count > keys.MOST_VALUES then return false end
  for _, part in ipairs(task.fields) do
    if type(part) ~= 'string' then return false end
  end
  return math.abs(task.due) < 2 ^ 53
end

-- All that were published under `id`. What somebody else wrote there is `junk`.
local function tasks_of(id)
  local tasks = {}
  while true do
    local packed = redis.call('HGET', keys.DELAYED_TASKS, field(id, #tasks + 1))
    if not packed then return tasks end
    local ok, task = pcall(cmsgpack.unpack, packed)
    tasks[#tasks + 1] = ok and is_one(task) and task or {junk = packed}
  end
end

-- `task`: a table of numbers and text.
function delayed.add(id, due, task)
  local n = 1
  task.place = string.format('%015d:', keys.add(keys.STATE, 'delayed', 1)) .. id
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

-- It is there no more, and what somebody else wrote under its id is a dead letter.
function delayed.remove(place)
  local id = id_of(place)
  local tasks = tasks_of(id)
  for n = #tasks, 1, -1 do
    local task, last = tasks[n], #tasks
    if task.junk or task.place == place then
      if task.junk then dead.add('malformed: it is not what is kept of a delayed task', {'body', task.junk}) end
      if n < last then redis.call('HSET', keys.DELAYED_TASKS, field(id, n), cmsgpack.pack(tasks[last])) end
      redis.call('HDEL', keys.DELAYED_TASKS, field(id, last))
      tasks[n], tasks[last] = tasks[last], nil
    end
  end
  redis.call('ZREM', keys.DELAYED, place)
end

-- All that were published under `id`.
function delayed.all(id)
  local found = {}
  for _, task in ipairs(tasks_of(id)) do
    if not task.junk then found[#found + 1] = task end
  end
  return found
end

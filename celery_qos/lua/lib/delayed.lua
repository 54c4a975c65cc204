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

-- What was read last: it is asked for again to be removed, and there may be much of one id.
local last_id, last_found

-- All that was published under `id`: each as it is kept, and its task unless somebody else wrote it.
local function found_of(id)
  if id == last_id then return last_found end
  local found = {}
  while true do
    local packed = redis.call('HGET', keys.DELAYED_TASKS, field(id, #found + 1))
    if not packed then break end
    local ok, task = pcall(cmsgpack.unpack, packed)
    found[#found + 1] = {packed = packed, task = ok and is_one(task) and task or nil}
  end
  last_id, last_found = id, found
  return found
end

-- A number that nothing is published under `id` with, where the first is taken.
local function free_number(id)
  local taken, free = 1, 2
  local function look(n)
    if redis.call('HEXISTS', keys.DELAYED_TASKS, field(id, n)) == 1 then taken = n else free = n end
  end
  look(free)
  while free == taken do
    free = 2 * taken
    look(free)
  end
  while free - taken > 1 do look(math.floor((taken + free) / 2)) end
  return free
end

-- `task`: a table of numbers and text.
function delayed.add(id, due, task)
  task.place = string.format('%015d:', keys.add(keys.STATE, 'delayed', 1)) .. id
  local packed = cmsgpack.pack(task)
  if redis.call('HSETNX', keys.DELAYED_TASKS, field(id, 1), packed) == 0 then
    redis.call('HSET', keys.DELAYED_TASKS, field(id, free_number(id)), packed)
  end
  redis.call('ZADD', keys.DELAYED, due, task.place)
  if redis.call('ZRANK', keys.DELAYED, task.place) == 0 then bell.ring() end
end

-- The places of those that are due, at most so many, the earliest first.
function delayed.due(now, most)
  return redis.call('ZRANGEBYSCORE', keys.DELAYED, '-inf', now, 'LIMIT', 0, most)
end

-- The task at `place` and how many bytes it takes, or nil where it was deleted by hand.
function delayed.at(place)
  for _, each in ipairs(found_of(id_of(place))) do
    if each.task and each.task.place == place then return each.task, #each.packed end
  end
end

-- It is there no more, and what somebody else wrote under its id is a dead letter.
function delayed.remove(place)
  local id = id_of(place)
  local found = found_of(id)
  for n = #found, 1, -1 do
    local each, last = found[n], #found
    if not each.task or each.task.place == place then
      if not each.task then
        dead.add('malformed: it is not what is kept of a delayed task', {'body', each.packed})
      end
      if n < last then redis.call('HSET', keys.DELAYED_TASKS, field(id, n), found[last].packed) end
      redis.call('HDEL', keys.DELAYED_TASKS, field(id, last))
      found[n] = found[last]
      found[last] = nil
    end
  end
  redis.call('ZREM', keys.DELAYED, place)
end

-- All tasks that were published under `id`.
function delayed.all(id)
  local tasks = {}
  for _, each in ipairs(found_of(id)) do tasks[#tasks + 1] = each.task end
  return tasks
end

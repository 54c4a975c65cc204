-- The keys of a queue's shard that the hot scripts go by; celery_qos/keys.py spells them alike and says what each holds.
local NS = KEYS[1]
local keys = {
  -- Version of this layout; celery_qos/store/database.py says the same. Who changes it in place drops `plain` from the state.
  SCHEMA = '3',
  GROUP = 'workers',
  HIGHEST_PRIORITY = 0,
  LOWEST_PRIORITY = 9,
  -- What a script can pass on of an entry: names and values. No message of ours has nearly as many.
  MOST_VALUES = 2000,
  -- Between the parts of a tenant's path; no part has a character that is not printable.
  PART = '\31',
  -- The node above the sub-queues. No sub-queue can be named so.
  ROOT = '\31',
}

-- keys.SETTINGS is <namespace>:settings, and so on: spelled when it is asked for, as a call needs few of them.
setmetatable(keys, {__index = function(_, name)
  local key = NS .. ':' .. string.lower(name)
  keys[name] = key
  return key
end})

function keys.tenant_stream(id, priority)
  return NS .. ':tenant:' .. priority .. ':' .. id
end

-- Add to a count, and return it. One that is no number, as it was set by hand, counts as 0.
function keys.add(key, field, count)
  local total = redis.pcall('HINCRBY', key, field, count)
  if type(total) == 'table' then
    total = count
    redis.call('HSET', key, field, total)
  end
  return total
end

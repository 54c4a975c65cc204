-- Which of these keys nobody goes by any more.
-- KEYS: namespace. ARGV: 1 to mend else 0, lease in ms for who has none, then of each key its kind (egress, running,
-- ready, finish, owing, aside) and its name: a number, a consumer, a node; of aside, the kind and the node.
-- Returns of each 1 where it is one, else 0.
-- include keys, settings, fair, limits, dispatch, moving
settings.load_settings()
local mend, lease, found, is_stray, take_up = ARGV[1] == '1', tonumber(ARGV[2]), {}, {}, {}

local function is_node(name)
  if name == settings.queue.top then return true end
  if redis.call('HEXISTS', keys.WAITING, name) == 0 then return false end
  return keys.split(name) or settings.queue.top == keys.ROOT
end

local function exists(key)
  return redis.call('EXISTS', key) == 1
end

local function has_children(node)
  return redis.call('EXISTS', keys.ready(node), keys.aside('ready', node)) > 0
end

-- Tasks that no worker reads.
function is_stray.egress(number)
  local stream = tonumber(number)
  if not exists(keys.egress(stream)) or stream >= settings.MOST_SHARDS then return false end
  return stream >= settings.queue.shards or not egress.group(stream)
end

-- All of them are read until the queue is idle.
function take_up.egress(number)
  local stream = tonumber(number)
  if stream >= settings.queue.shards then
    redis.call('HSET', keys.SETTINGS, 'shards', stream + 1)
    redis.call('HDEL', keys.STATE, 'plain')
    settings.load_settings()
  end
  egress.ensure_groups()
end

-- Tasks that count as in flight for good.
function is_stray.running(consumer)
  return exists(keys.running(consumer)) and not redis.call('ZSCORE', keys.LEASES, consumer)
end

-- A lease to lose: the sweep sees to the rest.
function take_up.running(consumer)
  redis.call('ZADD', keys.LEASES, 'NX', clock.now_ms() + lease, consumer)
end

-- Whoever is in there has no turn; audit.lua gives them one.
function is_stray.ready(node)
  return exists(keys.ready(node)) and not is_node(node)
end

function take_up.ready(node)
  redis.call('UNLINK', keys.ready(node))
end

function is_stray.finish(node)
  return redis.call('EXISTS', keys.finish(node), keys.owing(node)) > 0 and not has_children(node)
end

function take_up.finish(node)
  redis.call('UNLINK', keys.finish(node), keys.owing(node))
end

is_stray.owing, take_up.owing = is_stray.finish, take_up.finish

-- The kind and the node.
local function aside_of(name)
  local kind, node = string.match(name, '^([^:]*):(.*)$')
  return kind or name, node or keys.ROOT
end

function is_stray.aside(name)
  local kind, node = aside_of(name)
  return exists(keys.aside(kind, node)) and redis.call('HEXISTS', keys.MOVING, node) == 0
end

-- The change begins again: who contended there starts anew.
function take_up.aside(name)
  local kind, node = aside_of(name)
  if kind == 'own' or not is_node(node) then
    redis.call('UNLINK', keys.aside(kind, node))
  else
    redis.call('HSETNX', keys.MOVING, node, '{}')
  end
end

if mend then egress.allow_when_full() end
for i = 3, #ARGV, 2 do
  local stray = is_stray[ARGV[i]](ARGV[i + 1])
  found[#found + 1] = stray and 1 or 0
  if mend and stray then take_up[ARGV[i]](ARGV[i + 1]) end
end
if mend then
  moving.go_on()
  if dispatch.is_allowed() then dispatch.fill() end
  egress.forget_idle()
end
return found

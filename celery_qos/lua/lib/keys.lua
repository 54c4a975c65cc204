-- How the keys of a queue's shard are spelled; celery_qos/keys.py spells them alike and says what each holds.
local NS = KEYS[1]
local keys = {
  -- Version of this layout; celery_qos/store.py says the same.
  SCHEMA = '3',
  GROUP = 'workers',
  SETTINGS = NS .. ':settings',
  LEASES = NS .. ':leases',
  SLOTS = NS .. ':slots',
  STATE = NS .. ':state',
  WAITING = NS .. ':waiting',
  PARKED = NS .. ':parked',
  LENDABLE = NS .. ':lendable',
  IN_FLIGHT = NS .. ':in_flight',
  TOKENS = NS .. ':tokens',
  AVERAGES = NS .. ':averages',
  DEAD = NS .. ':dead',
  DELAYED = NS .. ':delayed',
  DELAYED_TASKS = NS .. ':delayed_tasks',
  DISCARDED = NS .. ':discarded',
  SWEEPERS = NS .. ':sweepers',
  BELL = NS .. ':bell',
  TRANSIENT = NS .. ':transient',
  HIGHEST_PRIORITY = 0,
  LOWEST_PRIORITY = 9,
  -- What a script can pass on of an entry: names and values. No message of ours has nearly as many.
  MOST_VALUES = 2000,
  -- Between the parts of a tenant's path; no part has a character that is not printable.
  PART = '\31',
  -- The node above the sub-queues. No sub-queue can be named so.
  ROOT = '\31',
}

function keys.of_node(kind, node)
  return node == keys.ROOT and NS .. kind or NS .. kind .. ':' .. node
end

function keys.ready(node) return keys.of_node(':ready', node) end
function keys.finish(node) return keys.of_node(':finish', node) end
function keys.owing(node) return keys.of_node(':owing', node) end

function keys.egress(stream)
  return stream == 0 and NS .. ':egress' or NS .. ':egress:' .. stream
end

function keys.published(turn)
  return NS .. ':published:' .. turn
end

function keys.running(consumer)
  return NS .. ':running:' .. consumer
end

function keys.tenant_stream(id, priority)
  return NS .. ':tenant:' .. priority .. ':' .. id
end

-- The number that `text` is, within these bounds; `default` where it is none, as it was set by hand.
function keys.number(text, default, least, most)
  local value = tonumber(text or nil)
  if not value or value ~= value then return default end
  return math.min(math.max(value, least), most)
end

function keys.whole(text, default, least, most)
  return math.floor(keys.number(text, default, least, most))
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

-- All that may hold tasks of the tenant, the most urgent ones first.
function keys.tenant_streams(id)
  local streams = {}
  for priority = keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY do
    streams[#streams + 1] = keys.tenant_stream(id, priority)
  end
  return streams
end

-- 0 where the key is none.
function keys.stream_length(key)
  return tonumber(redis.pcall('XLEN', key)) or 0
end

-- `sub:path` is a tenant in a sub-queue; the implicit sub-queue's name is ''. Returns nil for a sub-queue's own id.
function keys.split(id)
  return string.match(id, '^([^:]*):(.*)$')
end

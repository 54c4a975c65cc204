-- How the keys of a queue's shard are spelled; celery_qos/keys.py spells them alike and says what each holds.
local keys = {}

keys.NS = KEYS[1]
keys.GROUP = 'workers'
keys.SETTINGS = keys.NS .. ':settings'
keys.LEASES = keys.NS .. ':leases'
keys.SLOTS = keys.NS .. ':slots'
keys.STATE = keys.NS .. ':state'
keys.WAITING = keys.NS .. ':waiting'
keys.PARKED = keys.NS .. ':parked'
keys.LENDABLE = keys.NS .. ':lendable'
keys.IN_FLIGHT = keys.NS .. ':in_flight'
keys.TOKENS = keys.NS .. ':tokens'
keys.AVERAGES = keys.NS .. ':averages'
keys.DEAD = keys.NS .. ':dead'
keys.SWEEPERS = keys.NS .. ':sweepers'
keys.BELL = keys.NS .. ':bell'
keys.TRANSIENT = keys.NS .. ':transient'

keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY = 0, 9
-- Between the parts of a tenant's path; no part has a character that is not printable.
keys.PART = '\31'
-- The node above the sub-queues. No sub-queue can be named so.
keys.ROOT = keys.PART

function keys.of_node(kind, node)
  return node == keys.ROOT and keys.NS .. kind or keys.NS .. kind .. ':' .. node
end

function keys.ready(node) return keys.of_node(':ready', node) end
function keys.finish(node) return keys.of_node(':finish', node) end
function keys.owing(node) return keys.of_node(':owing', node) end

function keys.egress(stream)
  return stream == 0 and keys.NS .. ':egress' or keys.NS .. ':egress:' .. stream
end

function keys.running(consumer)
  return keys.NS .. ':running:' .. consumer
end

function keys.tenant_stream(id, priority)
  return keys.NS .. ':tenant:' .. priority .. ':' .. id
end

-- 0 where the key is none.
function keys.stream_length(key)
  return tonumber(redis.pcall('XLEN', key)) or 0
end

-- `sub:path` is a tenant in a sub-queue; the implicit sub-queue's name is ''. Returns nil for a sub-queue's own id.
function keys.split(id)
  return string.match(id, '^([^:]*):(.*)$')
end

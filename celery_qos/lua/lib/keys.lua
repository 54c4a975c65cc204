-- How the keys of a queue's shard are spelled; celery_qos/keys.py spells them alike and says what each holds.
local NS = KEYS[1]
local GROUP = 'workers'
local SETTINGS = NS .. ':settings'
local LEASES = NS .. ':leases'
local SLOTS = NS .. ':slots'
local STATE = NS .. ':state'
local WAITING = NS .. ':waiting'
local PARKED = NS .. ':parked'
local LENDABLE = NS .. ':lendable'
local IN_FLIGHT = NS .. ':in_flight'
local TOKENS = NS .. ':tokens'
local AVERAGES = NS .. ':averages'
local DEAD = NS .. ':dead'
local SWEEPERS = NS .. ':sweepers'
local BELL = NS .. ':bell'
local TRANSIENT = NS .. ':transient'

local HIGHEST_PRIORITY, LOWEST_PRIORITY = 0, 9
-- Between the parts of a tenant's path; no part has a character that is not printable.
local PART = '\31'
-- The node above the sub-queues. No sub-queue can be named so.
local ROOT = PART

local function of_node(kind, node)
  return node == ROOT and NS .. kind or NS .. kind .. ':' .. node
end

local function ready(node) return of_node(':ready', node) end
local function finish(node) return of_node(':finish', node) end
local function owing(node) return of_node(':owing', node) end

local function egress(stream)
  return stream == 0 and NS .. ':egress' or NS .. ':egress:' .. stream
end

local function running(consumer)
  return NS .. ':running:' .. consumer
end

local function tenant_stream(id, priority)
  return NS .. ':tenant:' .. priority .. ':' .. id
end

-- 0 where the key is none.
local function stream_length(key)
  return tonumber(redis.pcall('XLEN', key)) or 0
end

-- `sub:path` is a tenant in a sub-queue; the implicit sub-queue's name is ''. Returns nil for a sub-queue's own id.
local function split(id)
  return string.match(id, '^([^:]*):(.*)$')
end

-- How the keys of a queue's shard are spelled; celery_qos/keys.py spells them alike and says what each holds.
local NS = KEYS[1]
local GROUP = 'workers'
local SETTINGS = NS .. ':settings'
local EGRESS = NS .. ':egress'
local LEASES = NS .. ':leases'
local SLOTS = NS .. ':slots'
local STATE = NS .. ':state'
local READY = NS .. ':ready'
local FINISH = NS .. ':finish'
local WAITING = NS .. ':waiting'
local TRANSIENT = NS .. ':transient'

local HIGHEST_PRIORITY, LOWEST_PRIORITY = 0, 9

-- 0 where the key is none.
local function stream_length(key)
  return tonumber(redis.pcall('XLEN', key)) or 0
end

local function tenant_stream(tenant, priority)
  return NS .. ':tenant:' .. priority .. ':' .. tenant
end

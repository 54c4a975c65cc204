-- Deliver tasks to one who takes them to another broker: in the order of their turns, but whether a limit holds them or
-- not, and expired or not, as it is for the other broker to tell. A lease guards them; should it end, they are delivered
-- to others, and that does not count as a failed delivery.
-- KEYS: namespace. ARGV: consumer, how many at most, lease in ms.
-- Returns {1 where more wait, then {name, fields} of each}.
-- include keys, settings, fair, limits, dispatch, workers, moving, discarded, time, work
settings.load_settings()
-- Their sum, in bytes, so that a reply stays short.
local MOST_BYTES = 2 ^ 20
-- So many that were held by a limit contend again in one call.
local UNPARKED = 15
local consumer, most = ARGV[1], tonumber(ARGV[2])
bell.silent = true
egress.allow_when_full()
egress.ensure_groups()
function limits.blocked() return nil end
function limits.take_token() end
function discarded.is_expired() return false end

moving.go_on()
for _, id in ipairs(redis.call('ZRANGE', keys.PARKED, 0, UNPARKED - 1)) do limits.unpark(id) end
egress.free_slots()

local function read()
  for stream = 0, settings.queue.shards - 1 do
    local found = redis.call(
      'XREADGROUP', 'GROUP', keys.GROUP, consumer, 'COUNT', 1, 'STREAMS', keys.egress(stream), '>')
    if found then
      local entry = found[1][2][1]
      return {egress.entry_name(stream, entry[1]), entry[2]}
    end
  end
end

local reply, bytes = {0}, 0
while #reply <= most and bytes < MOST_BYTES and not work.is_over() do
  local entry = read() or dispatch.fill(1) > 0 and read()
  if not entry then break end
  reply[#reply + 1] = entry
  for _, value in ipairs(entry[2]) do bytes = bytes + #value end
end
workers.guard(consumer, ARGV[3])
reply[1] = redis.call('EXISTS', keys.WAITING)
if reply[1] == 1 and egress.free_slots() > 0 then
  -- Here no limit holds, so it is for a sweep to give workers the slots that are free.
  bell.silent = false
  bell.ring()
end
egress.forget_idle()
return reply

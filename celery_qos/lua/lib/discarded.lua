-- Tasks that will not run, expired or cancelled: workers tell Celery of them, in no slot.
-- include keys, time, bell
local discarded = {}

-- More of them than this are not told of, the oldest first.
discarded.MOST = 100000

-- A task that expires says so in its first field.
function discarded.is_expired(fields)
  return fields[1] == 'expires' and (tonumber(fields[2]) or math.huge) <= clock.now_ms()
end

function discarded.add(reason, fields)
  redis.call('XADD', keys.DISCARDED, 'MAXLEN', '~', discarded.MOST, '*', 'reason', reason, unpack(fields))
  bell.ring()
end

-- Tasks that will not run, expired or cancelled: workers tell Celery of them, in no slot.
-- include keys, time, bell, totals
local discarded = {}

-- More of them than this are not told of, the oldest first.
discarded.MOST = 100000

-- A task that expires says so in its first field.
function discarded.is_expired(fields)
  return fields[1] == 'expires' and (tonumber(fields[2]) or math.huge) <= clock.now_ms()
end

-- `sub`: its sub-queue, where the fields do not say it yet.
function discarded.add(reason, fields, sub)
  redis.call('XADD', keys.DISCARDED, 'MAXLEN', '~', discarded.MOST, '*', 'reason', reason, unpack(fields))
  totals.count(reason, sub or totals.sub_of(fields))
  bell.ring()
end

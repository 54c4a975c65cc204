-- How long tasks waited, by the minute of the server's clock in which that was noted. Each hash expires.
-- include keys, time
local waits = {}

-- For so long each is kept after it was last written to: who reads them looks five full minutes back.
waits.MINUTES = 6

function waits.add(id, bucket, count, now)
  keys.add(keys.waits(math.floor(now / 60000)), bucket .. '|' .. id, count)
end

-- Something was noted that was gathered since then; both times are in ms.
function waits.touch(since, now)
  local key = keys.waits(math.floor(now / 60000))
  redis.call('HSETNX', key, 'since', string.format('%d', since))
  redis.call('EXPIRE', key, 60 * waits.MINUTES)
end

function waits.forget()
  local minute = math.floor(clock.now_ms() / 60000)
  for ago = 0, waits.MINUTES do redis.call('UNLINK', keys.waits(minute - ago)) end
end

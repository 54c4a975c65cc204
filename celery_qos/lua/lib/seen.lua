-- Messages that were published lately: one that is published again, as the reply was lost, enters once.
-- Two hashes take turns, each for as long as ids are remembered, and expire when nothing in them matters any more.
-- include keys, time
local seen = {}

-- Whether the message was published less than `window` ms ago. Some are remembered for up to twice as long.
function seen.before(id, window)
  if id == '' or window == 0 then return false end
  return redis.call('HEXISTS', keys.published(0), id) == 1 or redis.call('HEXISTS', keys.published(1), id) == 1
end

function seen.remember(id, window)
  if id == '' or window == 0 then return end
  local turn = math.floor(clock.now_ms() / window)
  local key = keys.published(turn % 2)
  redis.call('HSET', key, id, '')
  if redis.call('HLEN', key) == 1 then redis.call('PEXPIREAT', key, (turn + 2) * window) end
end

-- Messages that were published lately: one that is published again, as the reply was lost, enters once.
-- Two hashes take turns, each for as long as ids are remembered. One whose turn comes again starts empty; where nobody
-- publishes any more, it expires.
-- include names
local seen = {}

-- Whether the message was published less than `window` ms ago. Some are remembered for up to three times as long.
function seen.before(id, window)
  if id == '' or window == '0' then return false end
  return redis.call('HEXISTS', keys.PUBLISHED .. ':0', id) == 1 or redis.call('HEXISTS', keys.PUBLISHED .. ':1', id) == 1
end

-- `window` and `now`, the server's time, are in ms; `window` is text, as it came. `begun`: what this returned last, if
-- that is known; it spares looking whose turn it is.
function seen.remember(id, window, now, begun)
  if id == '' or window == '0' then return begun end
  local turn = math.floor(now / window)
  local key, name = keys.PUBLISHED .. (turn % 2 == 0 and ':0' or ':1'), window .. ':' .. turn
  -- Of this turn's, more than two windows are left: else it is of the turn before last. To let that expire would stop
  -- the server while it frees all of them, and lose what was added as its time came.
  local begins = begun ~= name and redis.call('PTTL', key) < 2 * window
  if begins then redis.call('UNLINK', key) end
  redis.call('HSET', key, id, '')
  if begins then redis.call('PEXPIREAT', key, (turn + 3) * window) end
  return name
end

-- Dead letters: what cannot be delivered, and the reason.
-- include keys, settings
local dead = {}

function dead.add(reason, fields)
  local most = tonumber(redis.call('HGET', keys.SETTINGS, 'max_dead_letters') or 100000)
  redis.call('XADD', keys.DEAD, 'MAXLEN', '~', most, '*', 'reason', reason, unpack(fields))
end

-- Dead letters: what cannot be delivered, and the reason.
-- include keys, totals
local dead = {}

-- Reasons begin with one of these words; the totals count any other as `other`.
dead.KINDS = {malformed = true, delivered = true, full = true, rejected = true}

-- Before the task is removed from where it was: an error must not come in between. Of an entry with more fields than
-- any message has, only the first ones are kept.
function dead.add(reason, fields)
  local most = keys.whole(redis.call('HGET', keys.SETTINGS, 'max_dead_letters'), 100000, 1, 2 ^ 40)
  redis.call('XADD', keys.DEAD, 'MAXLEN', '~', most, '*', 'reason', reason,
    unpack(fields, 1, math.min(#fields, keys.MOST_VALUES)))
  local kind = string.match(reason, '^%a+')
  totals.count('dead-' .. (dead.KINDS[kind] and kind or 'other'), totals.sub_of(fields))
end

-- Put tasks that workers of the stock Redis transport did not acknowledge back to where they are taken first, as those
-- workers do when the visibility timeout has passed.
-- KEYS: the hash and the index of what is not acknowledged, then lists. ARGV: for each task its delivery tag, the number
-- of its list, and the entry of that. Returns how many were there.
local restored = 0
for i = 1, #ARGV, 3 do
  local list = KEYS[2 + ARGV[i + 1]]
  redis.call('LLEN', list)
  if redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then
    redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('RPUSH', list, ARGV[i + 2])
    restored = restored + 1
  end
end
return restored

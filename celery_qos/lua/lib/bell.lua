-- Wakes a sweep loop that sleeps.
-- include keys
local bell = {}

-- The sweep tells its caller what is due, so it need not ring; nor need what has rung.
bell.silent = false

function bell.ring()
  if bell.silent then return end
  redis.call('DEL', keys.BELL)
  redis.call('RPUSH', keys.BELL, 1)
  bell.silent = true
end

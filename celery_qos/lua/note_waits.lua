-- Add up how long the tasks waited that a worker was delivered: for a few minutes by tenant, and for good by sub-queue.
-- KEYS: namespace. ARGV: for how many ms they were gathered, then of each count: id of a tenant, name of a sub-queue or
-- ROOT for the whole queue; number of the bucket, or 'ms' where the count is one of ms; the count.
-- Returns 1, or 0 where there is no such queue any more.
-- include waits
if redis.call('EXISTS', keys.SETTINGS) == 0 then return 0 end
local now = clock.now_ms()
waits.touch(now - tonumber(ARGV[1]), now)
for i = 2, #ARGV, 3 do
  local id, bucket, count = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  waits.add(id, bucket, count, now)
  if not keys.split(id) then
    local total = bucket == 'ms' and 'total:waited_ms:' or 'total:wait:' .. bucket .. ':'
    keys.add(keys.SETTINGS, total .. (id == keys.ROOT and '' or id), count)
  end
end
return 1

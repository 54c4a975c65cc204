-- Deliver at most COUNT tasks from several queues, the first queue first. XREADGROUP counts per stream, not in all.
-- KEYS: the egress of each queue. ARGV: group, consumer, COUNT. Returns what XREADGROUP returns, or nothing.
local reply, left = {}, tonumber(ARGV[3])
for _, egress in ipairs(KEYS) do
  if left == 0 then break end
  local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', egress, '>')
  if read then
    reply[#reply + 1] = read[1]
    left = left - #read[1][2]
  end
end
return reply

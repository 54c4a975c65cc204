-- Deliver at most COUNT tasks from several queues, the first queue first. XREADGROUP counts per stream, not in all.
-- KEYS: the egress of each queue. ARGV: group, consumer, COUNT. Returns what XREADGROUP returns, or nothing.
-- A stream that cannot be read is an error only where nothing was delivered before it: a delivery must not be lost with
-- it.
local reply, left = {}, tonumber(ARGV[3])
for _, egress in ipairs(KEYS) do
  if left == 0 then break end
  local read = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', egress, '>')
  if read and read.err then
    return #reply > 0 and reply or read
  elseif read then
    reply[#reply + 1] = read[1]
    left = left - #read[1][2]
  end
end
return reply

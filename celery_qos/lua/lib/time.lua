-- The server's clock in milliseconds: the only clock that scripts use.
local clock = {}

function clock.now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

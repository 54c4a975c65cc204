-- Whether the accounts of what holds others are the sums of these: all at one time, where they are few enough.
-- KEYS: namespace. ARGV: 1 to mend else 0, how many accounts are few enough.
-- Returns {waiting tasks as noted, as they are, slots as noted, as they are, then id, account or -1, and sum of each that
-- is wrong}; the first two are -1 where there are too many.
-- include keys, settings, fair, limits, dispatch
settings.load_settings()
local mend, reply = ARGV[1] == '1', {}
if mend then egress.allow_when_full() end

local function noted(field)
  return keys.whole(redis.call('HGET', keys.STATE, field), 0, -2 ^ 52, 2 ^ 52)
end

local slots = 0
for _, each in ipairs(redis.call('HVALS', keys.SLOTS)) do slots = slots + keys.whole(each, 0, 0, 2 ^ 40) end
reply = {-1, -1, noted('slots'), slots}
if mend and reply[3] ~= slots then redis.call('HSET', keys.STATE, 'slots', slots) end

if redis.call('HLEN', keys.WAITING) <= tonumber(ARGV[2]) then
  local flat, accounts, sums, total = redis.call('HGETALL', keys.WAITING), {}, {}, 0
  local above = {}
  for i = 1, #flat, 2 do
    accounts[flat[i]] = keys.whole(flat[i + 1], 0, -2 ^ 52, 2 ^ 52)
    local sub, path = keys.split(flat[i])
    if path then
      local ids = settings.ids_of(sub, path)
      ids[#ids] = nil
      above[flat[i]] = ids
      for _, id in ipairs(ids) do sums[id] = 0 end
    end
  end
  for id, ids in pairs(above) do
    -- Who holds others has no tasks of its own.
    if not sums[id] then
      total = total + accounts[id]
      for _, each in ipairs(ids) do sums[each] = sums[each] + accounts[id] end
    end
  end
  -- A sub-queue that is left without tenants.
  for id in pairs(accounts) do
    if not keys.split(id) and not sums[id] then sums[id] = 0 end
  end
  reply[1], reply[2] = noted('waiting'), total
  for id, sum in pairs(sums) do
    if accounts[id] ~= sum then
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, accounts[id] or -1, sum
      if mend and sum > 0 then redis.call('HSET', keys.WAITING, id, sum) end
      if mend and sum == 0 then redis.call('HDEL', keys.WAITING, id) end
    end
  end
  if mend and reply[1] ~= total then redis.call('HSET', keys.STATE, 'waiting', total) end
end
if mend then
  if dispatch.is_allowed() then dispatch.fill() end
  egress.forget_idle()
end
return reply

-- Whether the accounts of what is in flight are right: all at one time, where few enough tasks are.
-- KEYS: namespace. ARGV: 1 to mend else 0, how many tasks are few enough, how many bytes of them.
-- Returns {how many are in flight, 1 where they were few enough else 0, then subject, account, and tasks of each that is
-- wrong}.
-- include keys, settings, fair, limits, dispatch
settings.load_settings()
local count, bytes, consumers = 0, 0, redis.call('ZRANGE', keys.LEASES, 0, -1)
for stream = 0, settings.queue.shards - 1 do
  count = count + redis.call('XLEN', keys.egress(stream))
  bytes = bytes + (redis.call('MEMORY', 'USAGE', keys.egress(stream)) or 0)
end
for _, consumer in ipairs(consumers) do count = count + redis.call('HLEN', keys.running(consumer)) end
if count > tonumber(ARGV[2]) or bytes > tonumber(ARGV[3]) or redis.call('HLEN', keys.IN_FLIGHT) > tonumber(ARGV[2]) then
  return {count, 0}
end

local right, accounts, reply = {}, {}, {count, 1}

local function add(subject)
  right[subject] = (right[subject] or 0) + 1
end

local function add_task(sub, path)
  if settings.queue.top == keys.ROOT then add(settings.subject_of(sub)) end
  for _, id in ipairs(settings.ids_of(sub, path)) do
    if keys.split(id) then add(settings.subject_of(id)) end
  end
end

for stream = 0, settings.queue.shards - 1 do
  for _, row in ipairs(redis.call('XRANGE', keys.egress(stream), '-', '+')) do
    local entry = {}
    for i = 1, #row[2], 2 do entry[row[2][i]] = row[2][i + 1] end
    if entry.tracked then add_task(entry.sub or '', entry.tenant or '') end
  end
end
for _, consumer in ipairs(consumers) do
  for _, id in ipairs(redis.call('HVALS', keys.running(consumer))) do
    local sub, path = keys.split(id)
    if path then add_task(sub, path) end
  end
end
local flat = redis.call('HGETALL', keys.IN_FLIGHT)
for i = 1, #flat, 2 do
  accounts[flat[i]] = keys.number(flat[i + 1], 0, -2 ^ 52, 2 ^ 52)
  right[flat[i]] = right[flat[i]] or 0
end
local wrong = {}
for subject, tasks in pairs(right) do
  -- Of sub-queues that are declared no longer nobody counts the end.
  local counted = settings.queue.top == keys.ROOT or string.find(subject, '^tenant:')
  if counted and (accounts[subject] or 0) ~= tasks then wrong[#wrong + 1] = subject end
end
table.sort(wrong)
for _, subject in ipairs(wrong) do
  for _, part in ipairs({subject, accounts[subject] or 0, right[subject]}) do reply[#reply + 1] = part end
end
if ARGV[1] == '1' and #wrong > 0 then
  egress.allow_when_full()
  for _, subject in ipairs(wrong) do
    if right[subject] > 0 then
      redis.call('HSET', keys.IN_FLIGHT, subject, right[subject])
    else
      redis.call('HDEL', keys.IN_FLIGHT, subject)
    end
    local path, sub = string.match(subject, '^tenant:(.*)$'), string.match(subject, '^sub:(.*)$')
    for _, id in ipairs(path and limits.parked_of(path) or {sub}) do limits.unpark(id) end
  end
  if dispatch.is_allowed() then dispatch.fill() end
  egress.forget_idle()
end
return reply

-- Move tasks to lists of this database, as the stock Redis transport keeps them: each leaves the one and is in the other
-- at once. Those that are there no more are passed over.
-- KEYS: namespace, the lists. ARGV: consumer that claimed them, lease in ms, then for each task `egress` or `delayed`,
-- its entry's name or its place, the number of its list, and the entry of that.
-- Returns how many moved.
-- include keys, settings, fair, limits, dispatch, workers, delayed
settings.load_settings()

local function take_entry(name)
  local stream, id = egress.place_of(name)
  local key = keys.egress(stream)
  local entry = redis.call('XRANGE', key, id, id)[1]
  if redis.call('XACK', key, keys.GROUP, id) == 0 or not entry then return false end
  redis.call('XDEL', key, id)
  limits.vacate_entry(entry[2])
  return true
end

local function take_delayed(place)
  if not delayed.at(place) then return false end
  delayed.remove(place)
  return true
end

local moved = 0
for i = 3, #ARGV, 4 do
  local list = KEYS[1 + ARGV[i + 2]]
  -- A key of another type raises before the task is taken.
  redis.call('LLEN', list)
  local take = ARGV[i] == 'egress' and take_entry or take_delayed
  if take(ARGV[i + 1]) then
    redis.call('LPUSH', list, ARGV[i + 3])
    moved = moved + 1
  end
end
workers.guard(ARGV[1], ARGV[2])
-- Those whose cap kept workers' slots idle may be served now.
dispatch.fill()
egress.forget_idle()
return moved

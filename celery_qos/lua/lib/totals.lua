-- What has happened since the queue exists, for who watches it: counts that only grow, of what is rare.
-- include keys
local totals = {}

-- One more of `what`, in a sub-queue, '' or nil for the queue. One that is not declared counts for the queue: entries
-- written by hand must not fill the settings. A queue that was deleted, or never declared, has no settings to count in.
function totals.count(what, sub)
  if sub and sub ~= '' and redis.call('HEXISTS', keys.SETTINGS, 'sub:' .. sub) == 0 then sub = nil end
  if redis.call('EXISTS', keys.SETTINGS) == 1 then
    keys.add(keys.SETTINGS, 'total:' .. what .. ':' .. (sub or ''), 1)
  end
end

-- The sub-queue that the fields of an entry name.
function totals.sub_of(fields)
  for i = 1, #fields - 1, 2 do
    if fields[i] == 'sub' then return fields[i + 1] end
  end
end

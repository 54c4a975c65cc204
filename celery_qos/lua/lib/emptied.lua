-- Tenants whose waiting tasks are deleted.
-- include keys, settings, fair, limits, dispatch, work
local emptied = {}

-- Delete what waits of `id` by itself, not of those inside it. It keeps its finish tag: who comes back must not steal
-- turns. Returns how many tasks, or nil where there was nothing.
function emptied.tenant(id)
  local sub, path = keys.split(id)
  if not path then return nil end
  local count, streams = 0, keys.tenant_streams(id)
  for _, stream in ipairs(streams) do count = count + keys.stream_length(stream) end
  if redis.call('UNLINK', unpack(streams)) == 0 then return nil end
  local ids, tags = settings.ids_of(sub, path), {}
  for i, each in ipairs(ids) do
    tags[i] = tonumber(redis.call('ZSCORE', keys.ready(settings.node_of(ids, i)), each) or nil)
  end
  dispatch.discount(ids, tonumber(redis.call('HGET', keys.WAITING, id)) or 0)
  dispatch.leave(ids, #ids, tags)
  for _, each in ipairs(ids) do
    if redis.call('HEXISTS', keys.WAITING, each) == 0 then
      redis.call('ZREM', keys.PARKED, each)
      redis.call('ZREM', keys.WOKEN, each)
      redis.call('ZREM', keys.LENDABLE, each)
    end
  end
  work.take(work.PURGE)
  return count
end

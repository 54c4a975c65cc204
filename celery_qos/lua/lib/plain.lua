-- A plain queue: one stream of egress without a capacity of its own, no sub-queues, no tenants inside tenants, turns that
-- do not depend on what tasks cost. What it is found to be is kept in its state, until a setting changes or it is idle:
-- 'even' where no tenant has options, else 'optioned'. That spares the hot scripts 30 of their 45 us: reading the
-- settings, and defining the functions that can cope with any queue.
-- include keys, settings
local plain = {}

function plain.kind()
  local queue = settings.queue
  if queue.top ~= '' or queue.shards > 1 or queue.capacity or queue.measured or settings.is_nested()
      or redis.call('EXISTS', keys.MOVING) == 1 then return nil end
  if queue.algorithm == 'wrr' then return queue.optioned and 'optioned' or 'even' end
  if queue.algorithm == 'rr' and not queue.optioned then return 'even' end
end

-- `published`: what lib/seen.lua says of the turn that ids of messages are remembered in.
function plain.note(published)
  local kind = plain.kind()
  if kind then redis.call('HSET', keys.STATE, 'plain', kind, 'published', published or '') end
end

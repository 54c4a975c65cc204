-- The way into a tenant's stream.
-- include keys, settings, egress
local ingress = {}

local function is_declared(name)
  return redis.call('HEXISTS', keys.SETTINGS, 'sub:' .. name) == 1
end

-- The one that is named, else that of the tenant or of the one it is inside, else the one to whose share of ingress the
-- percent falls, else the last. Returns nil where the name is unknown.
function ingress.sub_queue(tenant, named, percent)
  if settings.queue.top ~= keys.ROOT then return named == '' and '' or nil end
  if named ~= '' then return is_declared(named) and named or nil end
  local path = tenant
  while path do
    local own = settings.options_of(':' .. path).sub_queue
    -- One that is declared no longer is none.
    if own and is_declared(own) then return own end
    path = string.match(path, '^(.*)' .. keys.PART)
  end
  local shares = settings.decoded(redis.call('HGET', keys.SETTINGS, 'ingress') or nil) or {}
  for _, share in ipairs(shares) do
    if percent and percent <= share[1] then return share[2] end
  end
  return #shares > 0 and shares[#shares][2] or ''
end

-- `fields` are those of a task in the sub-queue `sub`, of the priority.
function ingress.mark(fields, sub, priority)
  if sub ~= '' then
    fields[#fields + 1] = 'sub'
    fields[#fields + 1] = sub
  end
  if priority ~= keys.HIGHEST_PRIORITY then
    fields[#fields + 1] = 'priority'
    fields[#fields + 1] = priority
  end
end

-- Append to the stream of the last of `ids`. Returns how many tasks it has now.
function ingress.append(ids, priority, fields)
  redis.call('XADD', keys.tenant_stream(ids[#ids], priority), '*', unpack(fields))
  keys.add(keys.STATE, 'waiting', 1)
  local count
  for _, id in ipairs(ids) do count = keys.add(keys.WAITING, id, 1) end
  return count
end

-- How the other keys of a queue's shard are spelled, and what is done with keys of any kind.
-- include names
function keys.of_node(kind, node)
  return node == keys.ROOT and NS .. kind or NS .. kind .. ':' .. node
end

function keys.ready(node) return keys.of_node(':ready', node) end
function keys.finish(node) return keys.of_node(':finish', node) end
function keys.owing(node) return keys.of_node(':owing', node) end

-- What was of this kind in the node when a change began that not all go by yet; `own`: the options that tenants had.
function keys.aside(kind, node) return keys.of_node(':aside:' .. kind, node) end

-- Nothing waits any more, so nothing moves.
function keys.forget_moving()
  for _, node in ipairs(redis.call('HKEYS', keys.MOVING)) do
    redis.call('UNLINK', keys.aside('ready', node), keys.aside('finish', node), keys.aside('owing', node),
      keys.aside('own', node))
  end
  redis.call('UNLINK', keys.MOVING, keys.WOKEN)
end

function keys.egress(stream)
  return stream == 0 and NS .. ':egress' or NS .. ':egress:' .. stream
end

function keys.waits(minute)
  return string.format('%s:waits:%d', NS, minute)
end

function keys.running(consumer)
  return NS .. ':running:' .. consumer
end

-- The number that `text` is, within these bounds; `default` where it is none, as it was set by hand.
function keys.number(text, default, least, most)
  local value = tonumber(text or nil)
  if not value or value ~= value then return default end
  return math.min(math.max(value, least), most)
end

function keys.whole(text, default, least, most)
  return math.floor(keys.number(text, default, least, most))
end

-- All that may hold tasks of the tenant, the most urgent ones first.
function keys.tenant_streams(id)
  local streams = {}
  for priority = keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY do
    streams[#streams + 1] = keys.tenant_stream(id, priority)
  end
  return streams
end

-- 0 where the key is none.
function keys.stream_length(key)
  return tonumber(redis.pcall('XLEN', key)) or 0
end

-- `sub:path` is a tenant in a sub-queue; the implicit sub-queue's name is ''. Returns nil for a sub-queue's own id.
function keys.split(id)
  return string.match(id, '^([^:]*):(.*)$')
end

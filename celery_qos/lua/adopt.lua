-- Move tasks of the stock Redis transport from a list of this database into their tenants' streams: each leaves the one
-- and is in the other at once, whatever has become of its sub-queue and however many wait.
-- KEYS: namespace, the list. ARGV: how far from its end, where stock workers take, an entry is looked for; then for each
-- task the entry, how many values follow, and those: tenant, priority, details as JSON or '' (as enqueue.lua has them),
-- field, value...
-- Returns of each, up to where it was enough for one call: waits, delayed, expired, gone where the entry is there no
-- more, or stuck where the key of its stream holds something else; or {'schema', version} alone.
-- include keys, settings, egress, fair, limits, dispatch, admit, delayed, discarded, time, work
settings.load_settings()
if settings.queue.schema and settings.queue.schema ~= keys.SCHEMA then return {'schema', settings.queue.schema} end
fair.check_types()
redis.call('ZCARD', keys.DELAYED)
local LIST, LOOK = KEYS[2], ARGV[1]

local function put(tenant, priority, details, fields)
  if discarded.is_expired(fields) then
    discarded.add('expired', fields)
    return 'expired'
  end
  local named, percent, due = details.named or '', details.percent, details.due
  if due and due > clock.now_ms() then
    delayed.add(details.id or '', due, {
      due = due, tenant = tenant, priority = priority, named = named, percent = percent, fields = fields})
    return 'delayed'
  end
  return admit.again(tenant, priority, named, percent, fields) and 'waits' or 'stuck'
end

local outcomes, at = {}, 2
while at <= #ARGV and not work.is_over() do
  local entry, last = ARGV[at], at + 1 + ARGV[at + 1]
  local outcome = 'gone'
  if redis.call('LPOS', LIST, entry, 'RANK', -1, 'MAXLEN', LOOK) then
    local details = ARGV[at + 4] ~= '' and cjson.decode(ARGV[at + 4]) or {}
    outcome = put(ARGV[at + 2], tonumber(ARGV[at + 3]), details, {unpack(ARGV, at + 5, last)})
    if outcome ~= 'stuck' then redis.call('LREM', LIST, -1, entry) end
  end
  outcomes[#outcomes + 1] = outcome
  at = last + 1
  work.take(work.DISPATCH)
end
dispatch.fill()
egress.forget_idle()
return outcomes

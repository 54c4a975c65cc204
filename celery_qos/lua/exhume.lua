-- Take dead letters out.
-- KEYS: namespace. ARGV: 1 where they join their tenants' streams again, as if they had just been published, else 0; then
-- their ids. Returns how many were there.
-- include keys, settings, fair, limits, dispatch, admit
settings.load_settings()
fair.check_types()
-- What was true of the delivery only.
local FORGOTTEN = {reason = true, deliveries = true, redelivered = true, enqueued = true, due = true, tracked = true,
  sub = true, priority = true}
local found, stuck = 0, nil
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', keys.DEAD, ARGV[i], ARGV[i])[1]
  if letter then
    found = found + 1
    if ARGV[1] == '1' then
      local all, fields = {}, {}
      for j = 1, #letter[2], 2 do
        local name, value = letter[2][j], letter[2][j + 1]
        all[name] = value
        if not FORGOTTEN[name] then
          fields[#fields + 1] = name
          fields[#fields + 1] = value
        end
      end
      all.tenant = all.tenant or ''
      local priority = keys.whole(all.priority, keys.HIGHEST_PRIORITY, keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY)
      -- An entry has to have some.
      if #fields == 0 then fields = {'tenant', all.tenant} end
      if not admit.again(all.tenant, priority, all.sub or '', nil, fields) then
        stuck = 'WRONGTYPE the key of the stream of tenant ' .. all.tenant .. ' holds something else'
        break
      end
    end
    redis.call('XDEL', keys.DEAD, ARGV[i])
    work.take(work.DISPATCH)
  end
end
if redis.call('XLEN', keys.DEAD) == 0 then redis.call('DEL', keys.DEAD) end
dispatch.fill()
egress.forget_idle()
return stuck and redis.error_reply(stuck) or found

-- Weighted round-robin: a turn costs 1, and who weighs more pays it off sooner.
-- Among sub-queues a round has whole turns: each one's weight over the least one's, rounded, and at least one.
POLICIES.wrr = {
  span = function(id)
    local weight = weight_of(id)
    if not split(id) then
      unit = unit or tonumber(redis.call('HGET', SETTINGS, 'unit') or 1)
      weight = math.max(1, math.floor(weight / unit + 0.5))
    end
    return 1 / weight
  end,
}

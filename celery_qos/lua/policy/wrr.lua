-- Weighted round-robin: a turn costs 1, and who weighs more pays it off sooner.
-- Among sub-queues a round has whole turns: each one's weight over the least one's, rounded, and at least one.
fair.policies.wrr = {
  span = function(id)
    local weight = settings.weight_of(id)
    if not keys.split(id) then
      fair.unit = fair.unit or tonumber(redis.call('HGET', keys.SETTINGS, 'unit') or 1)
      weight = math.max(1, math.floor(weight / fair.unit + 0.5))
    end
    return 1 / weight
  end,
}

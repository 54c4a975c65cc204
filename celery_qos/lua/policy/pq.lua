-- Priority queueing: in declared order, strictly. Who is not declared comes after them, turn by turn.
fair.policies.pq = {
  -- Past every rank.
  origin = 2 ^ 20,
  rank = function(id) return tonumber(redis.call('HGET', keys.SETTINGS, 'rank:' .. settings.subject_of(id)) or nil) end,
  span = function() return 1 end,
}

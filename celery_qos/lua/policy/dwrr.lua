-- Dynamic weighted round-robin: a turn costs the seconds that it keeps a worker busy. They are estimated when the task
-- is dispatched and corrected when it has ended.
fair.policies.dwrr = {
  measured = true,
  span = function(id, seconds) return seconds / settings.weight_of(id) end,
}

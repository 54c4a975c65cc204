-- Dynamic weighted round-robin: a turn costs the seconds that it keeps a worker busy. They are estimated when the task is
-- dispatched and corrected when it has ended.
POLICIES.dwrr = {
  measured = true,
  span = function(id, seconds) return seconds / weight_of(id) end,
}

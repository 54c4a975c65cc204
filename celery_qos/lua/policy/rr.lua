-- Round-robin: one turn each, whatever the weights.
POLICIES.rr = {
  span = function() return 1 end,
}

-- Round-robin: one turn each, whatever the weights.
fair.policies.rr = {
  span = function() return 1 end,
}

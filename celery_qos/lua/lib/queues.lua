-- A script that is about two queues works on one after the other: all else here knows one namespace.
-- include keys, settings, egress, fair, bell
local queues = {}

-- From now on everything is about the queue of this namespace.
function queues.turn_to(ns)
  for name, key in pairs(keys) do
    if type(key) == 'string' and string.sub(key, 1, #NS + 1) == NS .. ':' then keys[name] = nil end
  end
  NS = ns
  settings.known, settings.nested, fair.unit, bell.silent = {}, nil, nil, false
  settings.load_settings()
  egress.lengths = {}
  return egress.free_slots()
end

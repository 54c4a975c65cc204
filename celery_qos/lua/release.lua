-- A consumer leaves for good: its slots go, what it did not settle is delivered again at once.
-- KEYS: namespace. ARGV: consumer. Returns {tasks handed back, 1 where that was all}; the caller comes again until it
-- was.
-- include keys, settings, fair, limits, dispatch, workers
settings.load_settings()
local moved, done = workers.recover(ARGV[1], 0)
dispatch.fill()
egress.forget_idle()
return {moved, done and 1 or 0}

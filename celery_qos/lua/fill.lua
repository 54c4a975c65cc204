-- Go on with what one call could not do: a change of the settings that many wait for, and free slots.
-- KEYS: namespace. Returns 1 where there is more to do.
-- include keys, settings, fair, limits, dispatch, moving
settings.load_settings()
egress.allow_when_full()
moving.go_on()
dispatch.fill()
egress.forget_idle()
return moving.is_left()

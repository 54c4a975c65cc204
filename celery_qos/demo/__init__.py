"""The demo: one load through celery-qos and through the stock Redis transport, at the same time, for real."""

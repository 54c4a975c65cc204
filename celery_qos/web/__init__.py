"""A live page of the queues, for people: what waits, why, and who gets the workers."""

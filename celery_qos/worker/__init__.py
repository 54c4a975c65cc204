"""What a worker does beside running tasks: it keeps its leases, settles, and sweeps."""

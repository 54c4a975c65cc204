"""What celery-qos itself wrote into a worker's log."""
from __future__ import annotations

import re

__all__ = ('ours',)

#: How each of the lines begins that tell of a fault, or of its end.
_TEXTS = re.compile(r'\b(cannot renew the leases|cannot settle|cannot give back|Redis takes|the lease of|'
                    r'the lease thread|reconnected:|the consumer group)')


def ours(log: str) -> list[str]:
    """The text of each line about a fault, without time, process and level."""
    return [line[match.start():] for line in log.splitlines() if (match := _TEXTS.search(line))]

"""``qos status``: the queues at a glance."""
from __future__ import annotations

from .session import Session, session_command

__all__ = ('command',)


@session_command(name='status')
def command(session: Session) -> None:
    """The queues of the app: algorithm, slots, what waits, workers."""
    statuses = [session.control.status(queue) for queue in ([session.queue] if session.queue else
                                                            session.control.queues)]
    session.emit(statuses, lambda: None)

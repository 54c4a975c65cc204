"""What a queue looks like right now, for people and programs: read-only, and never more than the server can spare."""
from .status import QueueStatus, SubQueueStatus, WorkerStatus
from .tenants import SORTS, TenantStatus
from .waits import Waits
from .why import Why

__all__ = ('QueueStatus', 'SubQueueStatus', 'WorkerStatus', 'TenantStatus', 'SORTS', 'Waits', 'Why')

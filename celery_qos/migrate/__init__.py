"""Tasks that wait in the lists of Celery's stock Redis transport move into tenants' streams, and back."""
from .back import Back
from .forward import Forward
from .report import Moved
from .stock import Stock
from .tenants import Tenants

__all__ = ('Forward', 'Back', 'Moved', 'Stock', 'Tenants')

"""What may be wrong with a server and its queues, what to do about it, and what can be mended at once."""
from .examine import CHECKS, examine
from .finding import LEVELS, Finding

__all__ = ('examine', 'CHECKS', 'Finding', 'LEVELS')

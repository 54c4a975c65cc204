"""``qos why``: why a task, or a tenant, waits."""
from __future__ import annotations

from typing import Optional

import click

from .session import NOT_FOUND, Session, session_command
from .tenant import Key, tenant_argument
from .text import clean

__all__ = ('command',)

"""Tasks for the app of `tests.integration.apps.ledger` that end in other ways than by returning."""
from __future__ import annotations

import os
import signal

from .ledger import app, write


@app.task(bind=True, tenant_key='tenant')
def fails(self, tenant, mark=''):
    write('start', self.request, mark)
    raise ValueError(mark)


@app.task(bind=True, tenant_key='tenant', max_retries=1)
def retries(self, tenant, mark=''):
    write('start', self.request, mark)
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@app.task(bind=True, tenant_key='tenant')
def exits(self, tenant, mark=''):
    """Ends its thread, greenlet or child, as far as Celery lets it."""
    write('start', self.request, mark)
    raise SystemExit(1)


@app.task(bind=True, tenant_key='tenant')
def starves(self, tenant, mark=''):
    """Celery lets this error through, and no pool reports it."""
    write('start', self.request, mark)
    raise MemoryError(mark)


@app.task(bind=True, tenant_key='tenant')
def dies(self, tenant, mark=''):
    """The child of the pool is killed, as by the kernel where memory is short."""
    write('start', self.request, mark)
    os.kill(os.getpid(), signal.SIGKILL)

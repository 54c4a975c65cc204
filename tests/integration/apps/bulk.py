"""Tasks for the app of `tests.integration.apps.ledger` that publish others, and note the error where they cannot."""
from __future__ import annotations

from celery import chord, group

from celery_qos import QueueFull

from .ledger import app, early, write


@app.task(bind=True)
def publishes(self, way, count):
    """`count` tasks of tenant a."""
    signatures = [early.si('a', way) for _ in range(count)]
    try:
        if way == 'delay':
            for each in signatures:
                each.delay()
        elif way == 'group':
            group(signatures).delay()
        elif way == 'chord':
            chord(signatures, early.si('b', 'body')).delay()
        else:
            early.chunks([('a', way)] * count, 1).delay()
    except QueueFull as exc:
        write('refused', self.request, f'{way} {exc.tenant} {exc.capacity}')


@app.task(bind=True, tenant_key='tenant', max_retries=1)
def fills_and_retries(self, tenant):
    """Leaves no room for itself."""
    write('start', self.request, f'try {self.request.retries}')
    if self.request.retries == 0:
        try:
            while True:
                early.delay(tenant, 'filler')
        except QueueFull:
            raise self.retry(countdown=0) from None

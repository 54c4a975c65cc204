"""The ledger's app, whose worker serves its metrics, as docs/howto/monitoring.md has it."""
from __future__ import annotations

import os

from celery.signals import worker_ready

from celery_qos.metrics import serve

from .ledger import app

__all__ = ('app',)


@worker_ready.connect
def serve_metrics(sender, **kwargs):
    serve(sender.app, port=int(os.environ['QOS_TEST_PORT']))

"""The Celery app: where the broker is, whose tasks weigh what, and what beat sends."""
import os

from celery import Celery

import celery_qos
from celery_qos import QoS, Tenant

from . import waits
from .plans import PLANS, tenants

app = Celery('shop', include=['shop.tasks'])
app.conf.update(
    broker_url=os.environ.get('BROKER_URL', 'qos://localhost:6379/0'),
    result_backend=os.environ.get('RESULT_BACKEND', 'redis://localhost:6379/1'),
    # A task stays in its account's stream until a process is free: what a worker has prefetched is past choosing.
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    beat_schedule={
        'remind-overdue': {
            'task': 'shop.tasks.remind_overdue',
            'schedule': 2.0,    # seconds, so that there is something to see; a real shop would say crontab(hour=6)
            'options': {'headers': {'tenant': 'platform'}},
        },
    },
)

# An account that is not listed, such as one of today, and the platform's own work count as bronze.
celery_qos.setup(app, QoS(tenants=tenants(), default_tenant=Tenant(weight=PLANS['bronze'])))

waits.install()

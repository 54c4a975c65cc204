"""Logs how long each task waited, and for whom."""
import logging
from time import time

from celery.signals import before_task_publish, task_prerun

logger = logging.getLogger(__name__)
# Also where the worker's --loglevel asks for warnings only.
logger.setLevel(logging.INFO)


def install() -> None:
    """Note the time of every task that this process publishes, and log the wait of every task that it runs."""
    before_task_publish.connect(note_time)
    task_prerun.connect(log_wait)


def note_time(headers, **kwargs):
    headers['published_at'] = time()


def log_wait(task, **kwargs):
    published_at = task.request.get('published_at')
    if published_at is not None:
        logger.info('tenant=%s task=%s waited=%.3f', task.request.get('tenant', ''), task.name, time() - published_at)

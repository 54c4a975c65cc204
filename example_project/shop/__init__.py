"""A small shop that sends invoices for its accounts, each on a plan."""
from .celery import app as celery_app

__all__ = ('celery_app',)

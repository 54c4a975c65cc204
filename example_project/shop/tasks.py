"""The tasks, and how each finds the account it is done for."""
from time import sleep

from .celery import app

#: Seconds that the account's bookkeeping takes to answer. Two processes do 33 a second: 100 every 3 seconds just fit.
SYNC_SECONDS = 0.06

#: Invoices past their due date. A real shop asks its database.
OVERDUE = [{'number': 17, 'account': 'globex'}, {'number': 23, 'account': 'hooli'}]


def account_of(invoice):
    return invoice['account']


@app.task(tenant_key='account_id')
def sync(account_id):
    """Bring an account's invoices up to date. The tenant is an argument."""
    sleep(SYNC_SECONDS)
    return f'{account_id} is up to date'


@app.task(tenant_key=account_of, ignore_result=True)
def remind(invoice):
    """Remind an account of an invoice. The tenant is computed from the arguments."""
    record.delay(f'reminded of invoice {invoice["number"]}')


@app.task(ignore_result=True)
def record(text):
    """Write to an account's history. The tenant is that of the task which sent this one."""


@app.task(ignore_result=True)
def remind_overdue():
    """Remind all who are late. Beat sends it for the tenant 'platform'; each reminder belongs to its own account."""
    for invoice in OVERDUE:
        remind.delay(invoice)

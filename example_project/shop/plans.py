"""The accounts and the plans they pay for; a plan is a weight."""
from celery_qos import Tenant

#: Plan to its share of the workers, relative to the others, while others wait too.
PLANS = {'gold': 5, 'silver': 3, 'bronze': 1}

#: Account to its plan. A real shop asks its database.
ACCOUNTS = {'acme': 'gold', 'globex': 'silver', 'initech': 'bronze', 'hooli': 'bronze'}


def tenants() -> dict[str, Tenant]:
    """What each account is entitled to."""
    return {account: Tenant(weight=PLANS[plan]) for account, plan in ACCOUNTS.items()}

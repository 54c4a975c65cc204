"""Ids of egress never repeat, so that what is settled late settles nothing else."""
from __future__ import annotations

from celery_qos import keys


def test_a_new_egress_goes_on_with_the_ids_of_the_old(store, redis):
    ns = keys.namespace('q')
    store.declare('q')
    store.lease('q', 'first', 1, 15)
    # The server's clock stood later than now when this was dispatched.
    redis.xadd(keys.egress(ns), {'body': 'x'}, id='99999999999999-0')
    store.settle('q', ['99999999999999-0'])
    store.release('q', 'first')
    assert not redis.exists(keys.egress(ns))

    store.lease('q', 'second', 1, 15)
    store.enqueue('q', 't', 0, {'body': 'y'})
    [(entry_id, _)] = redis.xrange(keys.egress(ns))
    assert entry_id == b'99999999999999-1'
    assert store.settle('q', ['99999999999999-0']) == 0

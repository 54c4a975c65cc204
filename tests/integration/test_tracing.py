"""OpenTelemetry's and Sentry's integrations of Celery, with spans and events that say whose task waited how long."""
from __future__ import annotations

import json

import pytest
from celery import Celery

from tests.until import until

from .workers import Worker

pytestmark = pytest.mark.once


# Not where tasks run side by side in one process: OpenTelemetry's instrumentation mixes up a task that is retried
# before its publisher goes on.
@pytest.mark.parametrize('pool', ['prefork', 'solo'])
def test_spans_and_events_tell_tenant_and_wait(server, pool):
    book = server.client(db=2)

    def read(name):
        return [json.loads(line) for line in book.lrange(name, 0, -1)]

    app = Celery('publisher', broker=server.url('qos'), set_as_current=False)
    with Worker(server, pool, app='tests.integration.apps.traced',
                env={'QOS_TEST_LEDGER': server.socket, 'QOS_TEST_POOL': pool}):
        # Explicitly of another tenant than its argument says: no retry, and nothing that it publishes, may forget.
        app.send_task('tests.integration.apps.traced.parent', ('other',), tenant=('acme', 'alice'))
        # Two runs of the parent, which publish a child each, and two of each child.
        until(lambda: len(read('spans')) >= 11 and len(read('events')) >= 8)
    app.close()

    spans = {span['id']: span for span in read('spans')}
    runs = [span for span in spans.values() if span['name'].startswith('run/')]
    assert len(runs) == 6 and len({span['trace'] for span in runs}) == 1
    for run in runs:
        about = run['attributes']
        assert (about['celery_qos.tenant'], about['celery_qos.deliveries']) == ('acme/alice', 1)
        assert 0 < about['celery_qos.queue_wait'] < 10
    publishers = [spans[spans[run['parent']]['parent']]['name'] for run in runs if run['name'].endswith('.child')]
    assert sorted(name.rpartition('.')[2] for name in publishers) == ['child', 'child', 'parent', 'parent']

    events = read('events')
    errors = [event for event in events if 'exception' in event]
    assert [event['exception']['values'][-1]['value'] for event in errors] == ['of the child'] * 2
    assert {event['tags']['celery_qos.tenant'] for event in events} == {'acme/alice'}
    assert all(0 < float(event['tags']['celery_qos.queue_wait']) < 10 for event in events)
    transactions = [event for event in events if event.get('type') == 'transaction']
    assert len(transactions) == 6
    assert len({event['contexts']['trace']['trace_id'] for event in transactions}) == 1
    assert all(event['contexts']['trace']['data']['celery_qos.queue_wait'] > 0 for event in transactions)

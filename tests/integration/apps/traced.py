"""A worker's app with OpenTelemetry and Sentry; what they would send goes to lists in Redis."""
from __future__ import annotations

import json
import os

import sentry_sdk
from celery import Celery, signals
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from redis import Redis
from sentry_sdk.transport import Transport

from celery_qos.contrib import opentelemetry, sentry

app = Celery('traced', broker=os.environ['QOS_TEST_BROKER'])
app.conf.update(task_ignore_result=True)


def write(name, value):
    with Redis(unix_socket_path=os.environ['QOS_TEST_LEDGER'], db=2) as client:
        client.rpush(name, json.dumps(value, default=str))


class Spans(SpanExporter):
    def export(self, spans):
        for span in spans:
            write('spans', {
                'name': span.name, 'trace': span.context.trace_id, 'id': span.context.span_id,
                'parent': span.parent and span.parent.span_id, 'attributes': dict(span.attributes)})
        return SpanExportResult.SUCCESS


class Events(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type in ('event', 'transaction'):
                write('events', item.payload.json)


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Spans()))
trace.set_tracer_provider(provider)
sentry_sdk.init('http://key@localhost/1', transport=Events, traces_sample_rate=1.0)
sentry.instrument()
if os.environ.get('QOS_TEST_POOL') == 'prefork':
    signals.worker_process_init.connect(lambda **kwargs: opentelemetry.instrument(), weak=False)
else:
    opentelemetry.instrument()


@app.task(bind=True, tenant_key='account')
def parent(self, account):
    child.delay()
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task(bind=True)
def child(self):
    if not self.request.retries:
        raise self.retry(countdown=0)
    raise ValueError('of the child')

"""The dashboard, the alerts and docs/howto/monitoring.md name what the exporter has."""
from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from celery_qos.metrics import METRICS
from celery_qos.metrics.server import PORT
from tests.integration.prometheus import needed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'monitoring'
PAGE = (ROOT / 'docs' / 'howto' / 'monitoring.md').read_text(encoding='utf-8')
ALERTS = {rule['alert']: rule for group in yaml.safe_load((FOLDER / 'alerts.yml').read_text(encoding='utf-8'))['groups']
          for rule in group['rules']}

#: What there is to ask for, without prefix.
SERIES = {f'{name}{ending}' for name, metric in METRICS.items() for ending in {
    'gauge': [''], 'counter': ['_total'], 'histogram': ['_bucket', '_sum', '_count']}[metric.kind]}


def asked_for(expressions: list[str]) -> set[str]:
    return set(re.findall(r'celery_qos_(\w+)', ' '.join(expressions)))


def queries(value: object) -> list[str]:
    """All that Grafana asks Prometheus for."""
    if isinstance(value, list):
        return [query for each in value for query in queries(each)]
    if isinstance(value, dict):
        return [each for name, each in value.items() if name in ('expr', 'definition') and isinstance(each, str)] + [
            query for each in value.values() for query in queries(each)]
    return []


def test_the_dashboard_shows_what_there_is():
    dashboard = json.loads((FOLDER / 'grafana-dashboard.json').read_text(encoding='utf-8'))

    assert asked_for(queries(dashboard)) == SERIES
    ids = [panel['id'] for panel in dashboard['panels']]
    assert len(set(ids)) == len(ids)
    assert all(panel['type'] == 'row' or panel['targets'] for panel in dashboard['panels'])


def test_alerts_ask_for_what_there_is():
    assert asked_for([rule['expr'] for rule in ALERTS.values()]) <= SERIES
    assert all(rule['labels']['severity'] and rule['annotations']['summary'] for rule in ALERTS.values())


def test_alerts_do_what_they_say():
    promtool = needed('promtool')
    subprocess.run([promtool, 'check', 'rules', 'alerts.yml'], cwd=FOLDER, check=True, capture_output=True)
    done = subprocess.run([promtool, 'test', 'rules', 'alerts_test.yml'], cwd=FOLDER, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested():
    tests = yaml.safe_load((FOLDER / 'alerts_test.yml').read_text(encoding='utf-8'))['tests']

    cases = [case for test in tests for case in test['alert_rule_test'] if case['exp_alerts']]
    assert {case['alertname'] for case in cases} == set(ALERTS)


def test_the_page_explains_every_alert():
    assert re.findall(r'^\| `(CeleryQos\w+)` \| \S.+ \| \S.+ \|$', PAGE, re.MULTILINE) == list(ALERTS)


def test_the_page_has_every_metric():
    table = PAGE.split('<!-- metrics -->')[1]
    rows = re.findall(r'^\| `(\w+?)(?:_total)?(?:\{(.*)\})?` \| (\w+) \| (.+) \|$', table, re.MULTILINE)

    assert rows == [(name, ', '.join(metric.labels), metric.kind, metric.help) for name, metric in METRICS.items()]
    assert f'| `--port` | `{PORT}` |' in PAGE

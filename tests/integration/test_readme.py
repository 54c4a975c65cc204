"""The README's Python blocks, run as its reader would."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from celery_qos.store import Store
from tests.integration.workers import ROOT, Worker, environment
from tests.until import until

URL = 'qos://localhost:6379/0'
BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def test_in_your_app(server, store: Store, tmp_path: Path):
    task, publish, plans, at_run_time = BLOCK.findall((ROOT / 'README.md').read_text(encoding='utf-8'))
    assert URL in task
    shop = f'{task}\n\n{plans}'.replace(URL, server.url('qos'))
    (tmp_path / 'shop.py').write_text(shop, encoding='utf-8')
    path = {'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)])}

    subprocess.run([sys.executable, '-c', f'from shop import *\n{publish}{at_run_time}'], check=True, timeout=60,
                   cwd=tmp_path, env=environment(server.url('qos'), env=path))

    assert store.waiting('celery') == {'42': 1, 'acme': 1}
    assert [store.settings('celery', f'tenant:{tenant}').get('weight', 1) for tenant in ('gold', 'acme', '42')] == [
        5, 3, 1]
    with Worker(server, app='shop', env=path) as worker:
        until(lambda: len(re.findall(r'Task shop\.sync\[.*\] succeeded', worker.log())) == 2)
    assert store.waiting('celery') == {}

"""Which combinations of a pool and of early or late acknowledgement are left to the whole matrix."""
from __future__ import annotations

import pytest

#: Prefork is tested with both each time; what has one process, with the one that tells more of it.
LEFT_TO_THE_MATRIX = {('threads', 'late'), ('solo', 'early'), ('gevent', 'early'), ('eventlet', 'early')}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        params = item.callspec.params if hasattr(item, 'callspec') else {}
        ack = params.get('ack', {True: 'late', False: 'early'}.get(params.get('late')))
        if (params.get('pool'), ack) in LEFT_TO_THE_MATRIX:
            item.add_marker('full')

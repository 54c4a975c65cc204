"""Tables of the command line."""
from __future__ import annotations

import pytest

from celery_qos.commands.table import Column, fitted, lines

COLUMNS = (Column('tenant', width=16), Column('sub-queue'), Column('waiting', right=True, width=9),
           Column('p99', right=True, width=7), Column(''))
ROWS = [('a-long-name-' * 4 + 'end', '-', '1,234,567', '2.5 s', 'paused'), ('acme', 'gold', '3', '-', '')]


@pytest.mark.parametrize('width, header', [
    (100, 'tenant sub-queue waiting p99'), (60, 'tenant sub-queue waiting p99'), (54, 'tenant sub-queue waiting'),
    (40, 'tenant waiting'), (27, 'tenant waiting')])
def test_on_a_narrow_terminal_names_are_shorter_columns_fewer_and_figures_whole(width, header):
    shown = list(lines(*fitted(COLUMNS, ROWS, width, ('p99', 'sub-queue'))))
    assert ' '.join(shown[0].split()) == header
    assert all(len(line) <= width for line in shown)
    assert shown[1].startswith('a') and '1,234,567' in shown[1] and shown[1].endswith('paused')
    assert ('\u2026' in shown[1]) == (width < 90) and shown[1].split()[0].endswith('end')

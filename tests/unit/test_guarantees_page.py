"""Every cell of the page on guarantees names what proves it, and that exists."""
from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'guarantees.md').read_text(encoding='utf-8')
#: First cells of the rows that head a table.
HEADINGS = ('fault', 'while it is published', 'what cannot be run')


def proofs() -> set[str]:
    """Every test, and every check of the chaos harness."""
    return {name for file in (ROOT / 'tests').rglob('*.py')
            for name in re.findall(r'^ *def (\w+)\(', file.read_text(encoding='utf-8'), re.MULTILINE)
            if name.startswith('test_') or file.name == 'checks.py'}


def test_every_cell_names_a_proof_that_exists():
    known = proofs()
    rows = [row.split(' | ') for row in re.findall(r'^\| (.*) \|$', PAGE, re.MULTILINE)]
    cells = [cell for first, *row in rows if first.rstrip(' |') not in HEADINGS for cell in row]
    assert len(cells) > 60
    for cell in cells:
        _, colon, proof = cell.rpartition(': ')
        named = set(re.findall(r'`(\w+)`', proof))
        assert colon and named and named <= known, cell

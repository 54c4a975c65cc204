"""Draws every task's wait by the time it was published, one panel a transport."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from .errors import DemoError
from .side import Point

__all__ = ('check', 'draw')

_FORMATS = ('.png', '.svg', '.pdf')
_COLOURS = ('#d1495b', '#9aa5b1')


def check(path: Path) -> None:
    """Raise `DemoError` where `draw` could not write to `path`: better before a run than after it."""
    if find_spec('matplotlib') is None:
        raise DemoError('--plot needs matplotlib: run  pip install "celery-qos[plot]"')
    if path.suffix.lower() not in _FORMATS:
        raise DemoError(f'--plot {path}: its name must end in {", ".join(_FORMATS[:-1])} or {_FORMATS[-1]}')
    if not path.absolute().parent.is_dir():
        raise DemoError(f'--plot {path}: there is no folder {path.parent}; make it first')


def draw(points: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Write the picture.

    Arguments:
        points: a transport's name to its tasks.
    """
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 4), dpi=144, layout='constrained')
    panels = figure.subplots(1, len(points), sharey=True, squeeze=False)[0]
    count = Counter(point.tenant for side in points.values() for point in side)
    tenants = sorted(count, key=count.__getitem__)
    for panel, (name, side) in zip(panels, points.items(), strict=True):
        # The busy tenants first, so that the quiet one's few points lie on top.
        for tenant in reversed(tenants):
            _scatter(panel, tenant, _COLOURS[tenants.index(tenant) % len(_COLOURS)],
                     [point for point in side if point.tenant == tenant])
        panel.set_title(name, loc='left', fontweight='bold')
        panel.set_xlabel('published, seconds from the start')
        panel.set_ylim(bottom=0)
        panel.grid(axis='y', alpha=0.25)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('wait, seconds')
    shown: dict = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        shown.update(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc='outside upper right', ncols=len(shown), frameon=False)
    try:
        figure.savefig(path)
    except OSError as exc:
        raise DemoError(f'--plot {path}: cannot be written: {exc.strerror or exc}') from exc


def _scatter(panel, tenant: str, colour: str, points: Sequence[Point]) -> None:
    """Dots for waits that are over, hollow triangles for tasks that had not started: they waited longer than drawn."""
    for still, marker, label in ((False, 'o', f'tenant {tenant}'), (True, '^', f'tenant {tenant}, not started')):
        chosen = [point for point in points if point.wait.open == still]
        if chosen:
            panel.scatter([point.at for point in chosen], [point.wait.seconds for point in chosen], label=label,
                          marker=marker, s=26 if len(points) < 100 else 8, edgecolors=colour, linewidths=0.8,
                          facecolors='none' if still else colour, clip_on=False, zorder=3)

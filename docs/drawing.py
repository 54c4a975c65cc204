"""Draws tasks as bars over time, as SVG that is legible in light and in dark."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from runs import Task

__all__ = ('Mark', 'Panel', 'Row', 'draw', 'draw_drift')

#: Pixels.
WIDTH, LEFT, RIGHT, MARGIN = 760, 132, 108, 16
TOP, ROW, BAR, HEADING, AXIS = 40.0, 26, 16, 30, 30
#: Told apart with any colour vision, after Okabe and Ito.
LIGHT = ('#0072b2', '#d55e00', '#009e73', '#8a5a83')
DARK = ('#56b4e9', '#e69f00', '#2fc79a', '#cc79a7')
STYLE = '''
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px } .heading { font-weight: 600 } .soft { fill: #59636e }
.in { font-size: 11px; font-weight: 600; fill: #ffffff } .end { text-anchor: end } .middle { text-anchor: middle }
.card { fill: #ffffff; stroke: #d1d9e0 } .lane { fill: #f1f3f5 } .line { stroke: #b6bfc8 } .mark { stroke: #59636e }
'''
DARK_STYLE = '''
text { fill: #e6edf3 } .soft { fill: #9da7b3 } .in { fill: #0d1117 }
.card { fill: #0d1117; stroke: #3d444d } .lane { fill: #1b222b } .line { stroke: #4b545e } .mark { stroke: #9da7b3 }
'''


class Mark(NamedTuple):
    """Something that happened: a vertical line through a panel, with words at its top where there are any."""

    at: float
    text: str = ''


class Row(NamedTuple):
    """Where tasks are drawn.

    Arguments:
        name: that its tasks were sent with.
        label: at its left; the name by default.
        note: at its right.
        colour: number of a colour.
    """

    name: str
    colour: int
    note: str = ''
    label: str = ''


class Panel(NamedTuple):
    """Tasks in rows.

    Arguments:
        rows: in the order from above.
        lettered: write the name of a task's row into its bar.
    """

    tasks: Sequence[Task]
    rows: Sequence[Row]
    heading: str = ''
    marks: Sequence[Mark] = ()
    lettered: bool = False


def lanes(tasks: Sequence[Task]) -> list[int]:
    """The slot of each task: a free one, after a task of the same row if there is such."""
    last: list[Task] = []
    places = []
    for task in tasks:
        free = [place for place, before in enumerate(last) if before.end <= task.start]
        place = min(free, key=lambda place: last[place].row != task.row, default=len(last))
        last[place:place + 1] = [task]
        places.append(place)
    return places


def draw(path: Path, title: str, panels: Iterable[Panel], slots: int = 0) -> None:
    """Write the picture.

    Arguments:
        title: what there is to see.
        slots: where given, rows are as many slots of a worker and not those of the tasks.
    """
    panels = list(panels)
    seconds = max(task.end for panel in panels for task in panel.tasks)
    parts: list[str] = []
    y = TOP
    for panel in panels:
        y = _panel(parts, panel, y, seconds, slots)
    _axis(parts, y, seconds)
    _write(path, title, parts, y + AXIS)


def draw_drift(path: Path, title: str, points: Sequence[tuple[float, int]], limit: int, notes: tuple[str, str]) -> None:
    """Write the picture of how far apart two are over time, and how far they may be.

    Arguments:
        points: from when on, in seconds, and how far.
        notes: what is said of the part above and the part below.
    """
    seconds, middle, scale = points[-1][0], TOP + 90, 80 / limit
    parts = [f'<rect class="lane" x="{LEFT}" y="{middle - 80:g}" width="{WIDTH - LEFT - RIGHT}" height="160" rx="3"/>']
    for value, note in (limit, 'the bound'), (0, ''), (-limit, 'the bound'):
        y = middle - value * scale
        parts.append(f'<path class="{"line" if note == "" else "mark"}" d="M{LEFT} {y:g}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 10, y + 4.5, f'{value:+d} tasks'.replace('-', '−') if value else 'equal', 'end'))
        parts.append(_text(WIDTH - RIGHT + 10, y + 4.5, note, 'soft'))
    for y, note in zip((middle - 58, middle + 66), notes):
        parts.append(_text(LEFT + 10, y, note, 'soft'))
    steps = ''.join(f'H{_x(at, seconds):.1f}V{middle - drift * scale:g}' for at, drift in points)
    parts.append(f'<path class="s0" fill="none" stroke-width="2" d="M{LEFT} {middle:g}{steps}"/>')
    _axis(parts, middle + 90, seconds)
    _write(path, title, parts, middle + 90 + AXIS)


def _write(path: Path, title: str, parts: list[str], height: float) -> None:
    light, dark = (' '.join(f'.c{number} {{ fill: {colour} }} .s{number} {{ stroke: {colour} }}'
                            for number, colour in enumerate(colours)) for colours in (LIGHT, DARK))
    path.write_text('\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}">',
        f'<style>{STYLE}{light}',
        f'@media (prefers-color-scheme: dark) {{{DARK_STYLE}{dark} }}',
        '</style>',
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8"/>',
        _text(MARGIN, 30, title, 'title'),
        *parts,
        '</svg>\n']), encoding='utf-8')


def _panel(parts: list[str], panel: Panel, top: float, seconds: float, slots: int) -> float:
    """Append the panel; returns where the next one begins."""
    if panel.heading:
        parts.append(_text(MARGIN, top + 20, panel.heading, 'heading'))
        top += HEADING
    if any(mark.text for mark in panel.marks):
        top += 18
    rows = [Row(f'slot {number + 1}', 0) for number in range(slots)] if slots else panel.rows
    for number, row in enumerate(rows):
        y = top + number * ROW
        parts.append(f'<rect class="lane" x="{LEFT}" y="{y + 2:g}" width="{WIDTH - LEFT - RIGHT}" '
                     f'height="{ROW - 4}" rx="3"/>')
        parts.append(_text(LEFT - 10, y + 17.5, row.label or row.name, 'end soft' if slots else 'end'))
        if row.note:
            parts.append(_text(WIDTH - RIGHT + 10, y + 17.5, row.note, 'soft'))
    bottom = top + len(rows) * ROW
    for mark in panel.marks:
        x = _x(mark.at, seconds)
        parts.append(f'<path class="mark" stroke-dasharray="3 3" d="M{x:.1f} {top - 2:g}V{bottom:g}"/>')
        if mark.text:
            parts.append(_text(x, top - 7, mark.text, 'soft middle'))
    names = [row.name for row in panel.rows]
    places = lanes(panel.tasks) if slots else [names.index(task.row) for task in panel.tasks]
    for task, place in zip(panel.tasks, places):
        y, x = top + place * ROW + (ROW - BAR) / 2, _x(task.start, seconds)
        # A hair between two bars, so that they can be counted.
        width = max(0.8, _x(task.end, seconds) - x - 0.7)
        colour = panel.rows[names.index(task.row)].colour
        parts.append(f'<rect class="c{colour}" x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{BAR}"/>')
        if panel.lettered:
            parts.append(_text(x + width / 2, y + 12, task.row, 'in middle'))
    return bottom + 6


def _axis(parts: list[str], y: float, seconds: float) -> None:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2) if seconds / step <= 8)
    parts.append(f'<path class="line" d="M{LEFT} {y:g}H{WIDTH - RIGHT}"/>')
    for number in range(int(seconds / step) + 1):
        x = _x(number * step, seconds)
        parts.append(f'<path class="line" d="M{x:.1f} {y:g}v4"/>')
        parts.append(_text(x, y + 18, f'{number * step:g} s', 'soft middle'))


def _x(at: float, seconds: float) -> float:
    return LEFT + at / seconds * (WIDTH - LEFT - RIGHT)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" class="{kind}">{escape(text)}</text>'

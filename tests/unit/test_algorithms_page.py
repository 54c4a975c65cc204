"""docs/algorithms.md shows every picture, and what it names exists; links of all pages; keys in how-it-works.md."""
from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from celery import Celery

import celery_qos
from celery_qos import keys
from celery_qos.config import ALGORITHMS, Config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
TEXT = (DOCS / 'algorithms.md').read_text(encoding='utf-8')
#: Bytes: they are in the history for good, each time they are drawn.
GREATEST = 60_000


def anchors(page: Path) -> set[str]:
    titles = re.findall('^#+ (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', title).lower().replace(' ', '-') for title in titles}


def test_the_page_shows_every_picture_once():
    shown = re.findall(r'!\[.+\]\(pictures/(.*)\)', TEXT)

    assert sorted(shown) == sorted(path.name for path in (DOCS / 'pictures').iterdir())


def test_the_script_draws_every_picture(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    script = runpy.run_path(str(DOCS / 'pictures.py'))

    assert set(script['PICTURES']) == {path.stem for path in (DOCS / 'pictures').iterdir()}


@pytest.mark.parametrize('path', sorted((DOCS / 'pictures').iterdir()), ids=lambda path: path.name)
def test_a_picture_is_small_and_says_what_it_shows(path):
    picture = ElementTree.parse(path).getroot()

    assert path.stat().st_size < GREATEST
    assert picture.tag.endswith('}svg') and picture.get('aria-label')


@pytest.mark.parametrize('page', [
    *ROOT.glob('*.md'), *DOCS.rglob('*.md'), *(ROOT / 'example_project').glob('*.md')], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r'^ *```.*?^ *```$', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r'\]\((?!https?:)(.+?)\)', text):
        file, _, anchor = link.partition('#')
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_algorithm_has_a_section_and_a_picture():
    sections = dict(re.findall(r'^### (\w+)\n(.*?)(?=^##)', TEXT, re.MULTILINE | re.DOTALL))

    assert tuple(sections) == ALGORITHMS
    for name, section in sections.items():
        assert f'(pictures/{name}.svg)' in section


def test_the_commands_that_check_it_are_there():
    for path in re.findall(r'\b(?:tests|docs)/\S+\.py', TEXT):
        assert (ROOT / path).exists(), path


def test_the_worked_example_of_sub_queues():
    app = Celery(set_as_current=False)
    block = re.search(r'^```python\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)[1]
    exec(block, {'app': app, 'celery_qos': celery_qos})
    sub_queues = Config.from_data(app.conf.broker_transport_options['qos']).default.queues

    parts = [each.weight / min(each.weight for each in sub_queues) for each in sub_queues]
    text = ' '.join(TEXT.split())
    assert 'the weights are {:.3g}, {:g} and {:g}; rounded, {:.0f}, {:.0f} and {:.0f} turns of every 7'.format(
        *parts, *map(round, parts)) in text


def test_what_the_bound_is_in_tasks():
    slots = int(re.search(r'a worker with (\d+) slots', TEXT)[1])
    text = ' '.join(TEXT.split())

    assert f'({slots} + 1) · (1 + 1) = {(slots + 1) * 2} tasks' in text
    # The difference per weight, times the weight of the heavier.
    assert f'give or take {round((slots + 1) * (1 / 3 + 1) * 3)}.' in text


def test_every_key_is_explained():
    section = (DOCS / 'how-it-works.md').read_text(encoding='utf-8').split('\n## Keys')[1].split('\n## ')[0]
    explained = {name for row in re.findall(r'^\| (`:.*?`[^|]*) \|', section, re.MULTILINE)
                 for name in re.findall(r'`:(\w+)', row)}

    spelled = {name: getattr(keys, name) for name in keys.__all__ if name not in ('namespace', 'tenant_id')}
    with_more = 'running', 'published', 'waits', 'tenant_stream', 'aside'
    kinds = {re.match(r':(\w+)', spell('', *[1] * (name in with_more)))[1]
             for name, spell in spelled.items() if callable(spell)}
    assert explained == kinds

"""Builds the documentation: ``sphinx-build -W docs build/docs``."""
from __future__ import annotations

import inspect
import os
import re
from dataclasses import MISSING, fields
from pathlib import Path

from celery_qos import __version__
from celery_qos.options import Options

DOCS = Path(__file__).resolve().parent
REPOSITORY = 'https://github.com/celery-qos/celery-qos'
#: Pages that are a file of the repository's top folder; on GitHub, what is in docs/ only links to it.
TOP = {'changelog': 'CHANGELOG.md', 'contributing': 'CONTRIBUTING.md', 'security-policy': 'SECURITY.md'}
#: What a Markdown link to another file of the repository leads to, less the heading.
LINK = re.compile(r'(?<=\]\()(?!https?:|mailto:)[^)#\s]+')

project = 'celery-qos'
author = 'the celery-qos authors'
copyright = f'2026, {author}'
release = version = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_click']
#: Links to headings as GitHub spells them.
myst_heading_anchors = 4
default_role = 'literal'
#: They would make one dash of an option's two.
smartquotes = False
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
#: Names of others are not looked up: that takes the network.
nitpick_ignore_regex = [(r'py:.*', r'(?!celery_qos\b).*')]

html_theme = 'furo'
html_title = f'celery-qos {version}'
html_theme_options = {'source_repository': REPOSITORY, 'source_branch': 'main', 'source_directory': 'docs/'}


def read(app, docname: str, source: list[str]) -> None:
    """Take the text of the top folder's pages from there, and have links out of docs/ lead to where that is."""
    folder = (DOCS / docname).parent
    if docname in TOP:
        path = DOCS.parent / TOP[docname]
        app.env.note_dependency(path)
        source[0], folder = path.read_text(encoding='utf-8'), path.parent
    source[0] = LINK.sub(lambda link: where(link[0], folder, docname), source[0])


def where(link: str, folder: Path, docname: str) -> str:
    target = (folder / link).resolve()
    for page, name in TOP.items():
        if target == DOCS.parent / name:
            target = DOCS / f'{page}.md'
    if target.is_relative_to(DOCS):
        return os.path.relpath(target, (DOCS / docname).parent)
    return f'{REPOSITORY}/{"tree" if target.is_dir() else "blob"}/main/{target.relative_to(DOCS.parent)}'


def signature(app, what: str, name: str, obj, options, arguments, returns):
    """That of the fields: `Options.__new__` takes anything, to name what it does not know."""
    if not (inspect.isclass(obj) and issubclass(obj, Options)):
        return None
    defaults = {each.name: each.default if each.default_factory is MISSING else each.default_factory()
                for each in fields(obj)}
    shown = (f'{name}={f"{type(value).__name__}()" if isinstance(value, Options) else repr(value)}'
             for name, value in defaults.items())
    return f'({", ".join(shown)})', None


def keep(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    if what in ('attribute', 'data', 'property'):
        app.kept = list(lines)


def put_back(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Undo what napoleon does to the text on an attribute: it takes what comes before a colon for its type."""
    if what in ('attribute', 'data', 'property'):
        lines[:] = app.kept


def example(app, ctx, lines: list[str]) -> None:
    """Show the example at the end of a command's help as what it is."""
    for title in 'Example', 'Examples':
        if f'| {title}:' in lines:
            start = lines.index(f'| {title}:')
            lines[start:] = [f'{title}::', '', *(line.removeprefix('| ') for line in lines[start + 1:])]


def setup(app) -> None:
    app.connect('source-read', read)
    app.connect('autodoc-process-docstring', keep, priority=400)
    app.connect('autodoc-process-docstring', put_back, priority=600)
    app.connect('autodoc-process-signature', signature)
    app.connect('sphinx-click-process-description', example)

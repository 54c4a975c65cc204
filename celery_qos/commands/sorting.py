"""``--sort``: tenants by the figures of a column, which is called as its title is."""
from __future__ import annotations

from typing import Any, Optional

import click

from ..observe import SORTS

__all__ = ('sort_option', 'sort_text')

#: What a column is called, where the attribute has another name.
_TITLES = {'wait': 'oldest'}


def sort_text(sort: str) -> str:
    return _TITLES.get(sort, sort)


class _Sort(click.Choice):
    """One of `SORTS`, by either name."""

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        return value if value in SORTS else SORTS[list(self.choices).index(super().convert(value, param, ctx))]


sort_option = click.option('--sort', type=_Sort([sort_text(each) for each in SORTS]), default='waiting',
                           show_default=True, help='The most first.')

from __future__ import annotations

import pytest

from tests.lua.hand import Hand


@pytest.fixture
def hand(store) -> Hand:
    return Hand(store)

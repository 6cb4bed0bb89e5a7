"""The protocol holds: every state of every cast is explored, and nothing is broken in any."""

from __future__ import annotations

from functools import cache

import pytest
from tests.docs.pages import table_rows
from tests.protocol.cache_configurations import CACHE_CONFIGURATIONS, CacheDesign
from tests.protocol.checker import Checked, check
from tests.protocol.configurations import CONFIGURATIONS, Design

pytestmark = pytest.mark.xdist_group("protocol")  # each cast is explored once

EVERY_CAST = [*CONFIGURATIONS, *CACHE_CONFIGURATIONS]


@cache
def explored(name: str) -> Checked:
    if name in CONFIGURATIONS:
        return check(CONFIGURATIONS[name].system(Design()))
    return check(CACHE_CONFIGURATIONS[name].system(CacheDesign()))


@pytest.mark.parametrize("name", EVERY_CAST)
def test_every_property_holds_in_every_state(name: str) -> None:
    assert explored(name).broken is None, str(explored(name))


def test_the_page_lists_every_cast_with_the_states_it_has() -> None:
    documented = {row[0]: (row[1], row[2]) for row in table_rows("protocol.md", heading="## Casts")}

    casts = CONFIGURATIONS | CACHE_CONFIGURATIONS
    assert documented == {name: (cast.says, f"{explored(name).states:,}") for name, cast in casts.items()}

"""The checker is no rubber stamp: each mechanism is taken out once, and it says what is broken then."""

from __future__ import annotations

import pytest
from tests.docs.pages import table_rows
from tests.protocol.cache_configurations import CACHE_CONFIGURATIONS
from tests.protocol.cache_mutants import CACHE_MUTANTS
from tests.protocol.checker import Checked, check
from tests.protocol.configurations import CONFIGURATIONS
from tests.protocol.model import Property
from tests.protocol.mutants import MUTANTS, REDUNDANT

EVERY_MUTANT = MUTANTS | CACHE_MUTANTS


def rejected(name: str) -> Checked:
    if name in MUTANTS:
        mutant = MUTANTS[name]
        return check(CONFIGURATIONS[mutant.caught].system(mutant.design), only=mutant.breaks)
    cached = CACHE_MUTANTS[name]
    return check(CACHE_CONFIGURATIONS[cached.caught].system(cached.design), only=cached.breaks)


@pytest.mark.parametrize("name", EVERY_MUTANT)
def test_a_mutant_is_rejected_for_what_it_breaks(name: str) -> None:
    found = rejected(name)

    assert found.broken == EVERY_MUTANT[name].breaks
    assert found.trace
    assert all(line.strip() for line in found.trace)


@pytest.mark.parametrize("name", REDUNDANT)
def test_what_another_mechanism_makes_up_for_can_be_left_out(name: str) -> None:
    redundant = REDUNDANT[name]

    assert check(CONFIGURATIONS[redundant.explored].system(redundant.design)).broken is None


def test_each_property_is_broken_by_some_mutant() -> None:
    broken = {mutant.breaks for mutant in EVERY_MUTANT.values()}

    assert broken == set(Property)


def test_the_page_lists_every_property() -> None:
    documented = [row[0] for row in table_rows("protocol.md", heading="## What must hold")]

    assert documented == list(Property)


def test_the_page_lists_every_mutant() -> None:
    documented = {row[0]: row[1] for row in table_rows("protocol.md", heading="## Mutants")}

    assert documented == {name: mutant.breaks for name, mutant in EVERY_MUTANT.items()}

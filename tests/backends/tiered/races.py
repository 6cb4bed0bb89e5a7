"""Two verbs at once, in every order that there is: the second runs whole in each gap between the calls of the first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tests.backends.tiered.pairs import Meddled, Pair

from perdure.errors import BackendUnavailableError, PerdureError

__all__ = ["Race", "crashes", "races"]

S = TypeVar("S")
Verb = Callable[[Pair, S], Awaitable[Any]]
Scene = Callable[[], Awaitable[tuple[Pair, S]]]
"""Makes a pair, and what is in it at the beginning: the same each time."""


@dataclass(frozen=True)
class Race(Generic[S]):
    """What came of it: of each verb its answer, or the error that it raised."""

    gap: str
    pair: Pair
    subject: S
    first: Any
    second: Any = None


async def _outcome(verb: Verb[S], pair: Pair, subject: S) -> Any:
    try:
        return await verb(pair, subject)
    except PerdureError as error:
        return error


async def _gaps(scene: Scene[S], verb: Verb[S]) -> list[tuple[str, int, str]]:
    """Every call that the verb makes, by tier and number, and where around it there is a gap."""
    pair, subject = await scene()
    before = {name: len(_tier(pair, name).calls) for name in ("hot", "archive")}
    await _outcome(verb, pair, subject)
    return [
        (name, number, moment)
        for name in ("hot", "archive")
        for number in range(1, len(_tier(pair, name).calls) - before[name] + 1)
        for moment in ("before", "after")
    ]


def _tier(pair: Pair, name: str) -> Meddled:
    return pair.hot if name == "hot" else pair.archive


async def races(scene: Scene[S], first: Verb[S], second: Verb[S]) -> AsyncIterator[Race[S]]:
    """`first` in one process, and `second` in another, in each of the gaps of the first."""
    gaps = await _gaps(scene, first)
    assert len(gaps) > 1, "a verb of one call has no gaps"
    for name, number, moment in gaps:
        pair, subject = await scene()
        other = await pair.another()
        seconds: list[Any] = []

        async def meddle(other: Pair = other, subject: S = subject, seconds: list[Any] = seconds) -> None:
            seconds.append(await _outcome(second, other, subject))

        _tier(pair, name).at(number, **{moment: meddle})
        answer = await _outcome(first, pair, subject)
        pair.hot.meddling.clear()
        pair.archive.meddling.clear()
        assert len(seconds) == 1
        yield Race(f"{moment} call {number} of {name}", pair, subject, answer, seconds[0])


async def crashes(scene: Scene[S], verb: Verb[S]) -> AsyncIterator[Race[S]]:
    """`verb` in a process that ends at each of its calls, before it or after its effect; another process goes on."""
    for name, number, moment in await _gaps(scene, verb):
        pair, subject = await scene()

        async def die(pair: Pair = pair) -> None:
            pair.hot.down = pair.archive.down = True
            raise BackendUnavailableError("test", "the process is gone")

        _tier(pair, name).at(number, **{moment: die})
        answer = await _outcome(verb, pair, subject)
        yield Race(f"{moment} call {number} of {name}", await pair.another(), subject, answer)

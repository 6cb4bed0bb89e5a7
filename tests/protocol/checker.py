"""The explorer: every state that any interleaving can reach, breadth first, so that a counterexample is a shortest one.

It knows nothing of tiers. A process has one method for each of its atomic steps, named as its progress names them,
which yields each state that the step may lead to, with the progress made. Between two steps anything else may happen, a
crash included: the process loses its progress and begins again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

__all__ = ["Checked", "Process", "State", "System", "check"]

IDLE = ("start", "done")
"""Stages at which a process remembers nothing that a crash could take."""


class State(Protocol):
    """What the explorer needs to know of a state, which is a named tuple."""

    @property
    def running(self) -> tuple[Any, ...]:
        """The progress of each process, in their order."""

    @property
    def crashes(self) -> int:
        """How many more there may be."""


S = TypeVar("S", bound=State)


class Process:
    """Someone who does one step after the other, from `start` on."""

    may_crash: ClassVar[bool] = False
    """Whether it leaves anything behind when it crashes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def restarted(self, me: Any) -> Any:
        """What is left of its progress after a crash."""
        return type(me)()


class System(Protocol[S]):
    """What is to be explored."""

    @property
    def processes(self) -> tuple[Process, ...]: ...

    @property
    def initial(self) -> S: ...

    def settled(self, state: S) -> S:
        """The one that stands for all states which cannot be told apart."""

    def broken_in(self, state: S) -> Iterable[str]:
        """The properties that a state breaks."""

    def broken_by(self, before: S, after: S) -> Iterable[str]:
        """The properties that a step breaks, whatever led to it."""

    def described(self, before: S, after: S) -> str:
        """What a step changed, for people."""


@dataclass(frozen=True)
class Checked:
    """What an exploration found. Nothing broken: that is so in all `states` that there are."""

    states: int
    broken: str | None = None
    trace: tuple[str, ...] = ()
    """The shortest way to what is broken, a line for each step."""

    def __str__(self) -> str:
        if self.broken is None:
            return f"{self.states} states, and every property holds"
        return "\n".join((f"broken: {self.broken}", *self.trace))


def check(system: System[S], *, only: str | None = None, limit: int = 1_000_000) -> Checked:
    """Explore until something is broken (`only`: until this is) or nothing is left; at most `limit` states."""
    first = system.settled(system.initial)
    origins: dict[S, tuple[S, str] | None] = {first: None}
    level = [first]
    while level:
        following = []
        for state in level:
            for did, after in _successors(system, state):
                broken = [*system.broken_by(state, after)]
                if after not in origins:
                    origins[after] = state, did
                    following.append(after)
                    broken += system.broken_in(after)
                for named in broken:
                    if only is None or named == only:
                        steps = (*_way(system, origins, state), (did, system.described(state, after)))
                        return Checked(len(origins), named, _lines(steps))
        assert len(origins) <= limit, f"more than {limit} states: make the cast smaller"
        level = following
    return Checked(len(origins))


def _successors(system: System[S], state: S) -> Iterator[tuple[str, S]]:
    running = state.running
    for index, process in enumerate(system.processes):
        me = running[index]
        ahead, behind = running[:index], running[index + 1 :]
        after: Any  # a named tuple, whose `_replace` no protocol can describe
        for after, progress in getattr(process, me.at)(state, me):
            yield f"{process.name}: {me.at}", system.settled(after._replace(running=(*ahead, progress, *behind)))
        if state.crashes and process.may_crash and me.at not in IDLE:
            after = state
            after = after._replace(running=(*ahead, process.restarted(me), *behind), crashes=state.crashes - 1)
            yield f"{process.name}: crashes before {me.at}", system.settled(after)


def _way(system: System[S], origins: dict[S, tuple[S, str] | None], state: S) -> list[tuple[str, str]]:
    """What was done first to reach the state, and what that changed."""
    steps = []
    while (origin := origins[state]) is not None:
        before, did = origin
        steps.append((did, system.described(before, state)))
        state = before
    return steps[::-1]


def _lines(steps: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    width = max(len(did) for did, _ in steps)
    return tuple(f"{number:3}. {did:{width}}  {said}".rstrip() for number, (did, said) in enumerate(steps, 1))

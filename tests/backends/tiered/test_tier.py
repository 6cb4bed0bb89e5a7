"""One tier: its time-out, its circuit breaker, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from purgatory.domain.model import OpenedState
from tests.backends.tiered.pairs import Meddled

from perdure.backends import MemoryBackend, SessionBackend
from perdure.backends.tiered.breaker import FAILURES, Breaker, LeftAlone
from perdure.backends.tiered.tier import Tier
from perdure.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    SchemaError,
    SessionNotFoundError,
    StorageFullError,
    StorageReadOnlyError,
)
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import MINUTE


class Wall:
    """The clock on the wall, by which the circuit breaker's library goes."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr("purgatory.domain.model.time", wall)
    monkeypatch.setattr("perdure.backends.tiered.breaker.time", wall)
    return wall


class Watched:
    """A tier, the backend in it, and what its watcher was told."""

    def __init__(self, *, timeout: timedelta = timedelta(seconds=2)) -> None:
        self.backend = Meddled(MemoryBackend())
        self.told: list[str | None] = []
        self.tier = Tier("hot", self.backend, timeout=timeout, retry_after=MINUTE, watcher=self.watch)

    async def watch(self, tier: str, reason: str | None) -> None:
        self.told.append(reason)

    async def ask(self) -> None:
        """A call that finds nothing."""
        assert await self.tier.run(lambda backend: backend.read(stored_session().id)) is None

    async def store(self) -> None:
        """A call that stores."""
        await self.tier.run(lambda backend: backend.create(stored_session()), stores=True)

    async def fail(self, times: int = 1) -> None:
        """So many calls that are not answered."""
        down, self.backend.down = self.backend.down, True
        for _ in range(times):
            with pytest.raises(BackendUnavailableError):
                await self.ask()
        self.backend.down = down

    @property
    def calls(self) -> int:
        """How many calls reached the backend."""
        return len(self.backend.calls)


@pytest.fixture
async def watched() -> Watched:
    watched = Watched()
    await watched.tier.open(needed=True)
    return watched


@pytest.fixture
async def impatient() -> Watched:
    impatient = Watched(timeout=timedelta(0))
    await impatient.tier.open(needed=True)
    return impatient


# Time ---------------------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_is_given_up(impatient: Watched) -> None:
    impatient.backend.hangs("read")
    with pytest.raises(BackendUnavailableError, match="no answer within 0 s"):
        await impatient.ask()


async def test_the_time_that_a_delivery_takes_is_not_the_tiers(impatient: Watched) -> None:
    received = asyncio.Event()

    async def deliver(sessions: object) -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, received.set)
        await received.wait()

    session = stored_session()
    await impatient.backend.create(session)
    (done,) = await impatient.tier.run_delivering(
        lambda backend, deliver: backend.archive([session], at=START, deliver=deliver), deliver
    )
    assert (done.error, received.is_set(), impatient.told) == (None, True, [])


async def test_what_follows_a_delivery_has_its_time_again(impatient: Watched) -> None:
    async def archive(backend: SessionBackend, deliver: Callable[[list[object]], object]) -> None:
        await deliver([])  # type: ignore[misc]  # any awaitable will do
        await asyncio.Event().wait()

    async def deliver(sessions: object) -> None:
        await asyncio.sleep(0)

    with pytest.raises(BackendUnavailableError, match="no answer within 0 s"):
        await impatient.tier.run_delivering(archive, deliver)  # type: ignore[arg-type]


async def test_an_error_of_the_receiver_is_the_receivers(watched: Watched) -> None:
    session = stored_session()
    await watched.backend.create(session)

    async def deliver(sessions: object) -> None:
        raise TimeoutError("the receiver's own")

    with pytest.raises(TimeoutError, match="the receiver's own"):
        await watched.tier.run_delivering(
            lambda backend, deliver: backend.archive([session], at=START, deliver=deliver), deliver
        )
    assert watched.told == []


# The circuit breaker ------------------------------------------------------------------------------


async def test_a_tier_that_fails_again_and_again_is_left_alone(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES)
    before = watched.calls
    with pytest.raises(BackendUnavailableError, match=r"left alone for 60 s .* \(memory: nobody answers\)"):
        await watched.ask()
    assert watched.calls == before


async def test_after_fewer_failures_than_that_it_is_asked_on(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES - 1)
    await watched.ask()
    await watched.fail(FAILURES - 1)
    await watched.ask()


async def test_after_a_while_one_call_finds_out_and_all_go_on(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES)
    wall.now += 60.1
    await watched.ask()
    await watched.ask()
    assert watched.calls == 2


async def test_where_that_call_fails_the_tier_is_left_alone_again(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES)
    wall.now += 60.1
    await watched.fail()
    with pytest.raises(BackendUnavailableError, match="left alone"):
        await watched.ask()


async def test_while_one_call_finds_out_nobody_else_has_to_wait(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES)
    wall.now += 60.1
    gate = asyncio.Event()
    watched.backend.when("read", before=gate.wait)
    first = asyncio.create_task(watched.ask())
    await asyncio.sleep(0)
    with pytest.raises(BackendUnavailableError, match="left alone"):
        await watched.ask()
    gate.set()
    await first
    await watched.ask()


@pytest.mark.parametrize("failures", [1, FAILURES])
async def test_a_cancelled_call_says_nothing_about_the_tier(watched: Watched, wall: Wall, failures: int) -> None:
    await watched.fail(failures)
    wall.now += 60.1
    watched.backend.hangs("read")
    call = asyncio.create_task(watched.ask())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(watched.told) == 1
    await watched.fail(FAILURES - failures or 1)
    with pytest.raises(BackendUnavailableError, match="left alone"):
        await watched.ask()


@pytest.mark.parametrize("error", [SessionNotFoundError(stored_session().id), StorageFullError("memory", "full")])
async def test_an_error_that_is_an_answer_is_one(watched: Watched, wall: Wall, error: Exception) -> None:
    for _ in range(FAILURES + 1):
        watched.backend.fails("read", error)
        with pytest.raises(type(error)):
            await watched.ask()
    await watched.ask()


async def test_a_clock_that_is_set_back_does_not_keep_the_tier_alone(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES)
    wall.now -= 3_600
    with pytest.raises(BackendUnavailableError, match="left alone"):
        await watched.ask()
    wall.now += 60.1
    await watched.ask()


async def test_being_left_alone_again_and_again_keeps_nothing(wall: Wall) -> None:
    breaker = Breaker("hot", retry_after=MINUTE)
    for _ in range(FAILURES):
        with pytest.raises(BackendUnavailableError), breaker.call():
            raise BackendUnavailableError("memory", "nobody answers")
    kept = []
    for _ in range(3):
        with pytest.raises(LeftAlone) as caught, breaker.call():
            pytest.fail("it was not to be made")
        kept.append(caught.value.__context__)
    assert isinstance(kept[0], OpenedState)
    assert kept[0].__traceback__ is None


# Who is told --------------------------------------------------------------------------------------


async def test_a_tier_that_stops_answering_and_answers_again_is_told_of_once_each(watched: Watched, wall: Wall) -> None:
    await watched.fail(FAILURES + 2)
    wall.now += 60.1
    await watched.ask()
    await watched.ask()
    assert watched.told == ["memory: nobody answers", None]


@pytest.mark.parametrize("error", [StorageFullError("memory", "full"), StorageReadOnlyError("memory", "read-only")])
async def test_a_tier_that_takes_nothing_is_told_of_once_until_it_takes_something(
    watched: Watched, error: BackendError
) -> None:
    for _ in range(2):
        watched.backend.fails("create", error)
        with pytest.raises(type(error)):
            await watched.store()
        await watched.ask()  # it answers, which does not mean that there is room
    assert watched.told == [str(error)]
    await watched.store()
    assert watched.told == [str(error), None]


async def test_a_full_tier_that_goes_away_and_comes_back_is_full_until_it_is_not(watched: Watched) -> None:
    watched.backend.fails("create", StorageFullError("memory", "full"))
    with pytest.raises(StorageFullError):
        await watched.store()
    await watched.fail()
    await watched.ask()
    assert len(watched.told) == 1
    await watched.store()
    assert watched.told == ["memory: full", None]


async def test_a_session_that_cannot_be_read_is_no_trouble_of_the_tier(watched: Watched) -> None:
    watched.backend.fails("read", CorruptDataError("memory", "one session"))
    with pytest.raises(CorruptDataError):
        await watched.ask()
    assert (watched.told, watched.tier.trouble) == ([], None)


@pytest.mark.parametrize(
    "error",
    [
        BackendUnavailableError("memory", "gone"),
        StorageFullError("memory", "full"),
        StorageReadOnlyError("memory", "read-only"),
        CorruptDataError("memory", "not to be read"),
        SchemaError("memory", "newer"),
    ],
)
async def test_an_attempt_fails_without_an_error(watched: Watched, error: BackendError) -> None:
    watched.backend.fails("read", error)
    assert await watched.tier.attempt(lambda backend: backend.read(stored_session().id)) is None
    assert await watched.tier.attempt(lambda backend: backend.copies([])) == {}


async def test_an_attempt_does_not_hide_that_a_session_is_missing(watched: Watched) -> None:
    with pytest.raises(SessionNotFoundError):
        await watched.tier.attempt(lambda backend: backend.apply(stored_session().id, ChangeMaker().query()))


async def test_health_says_what_failed_last_although_the_tier_is_well_now(watched: Watched) -> None:
    await watched.fail()
    health = await watched.tier.health(now=START)
    assert health.ok
    assert health.warnings == ("it failed when it was last needed: memory: nobody answers",)
    await watched.ask()
    assert (await watched.tier.health(now=START)).warnings == ()


async def test_health_of_a_tier_that_does_not_answer_is_bad(impatient: Watched) -> None:
    impatient.backend.down = True
    health = await impatient.tier.health(now=START)
    assert (health.ok, health.error) == (False, "memory: nobody answers")


async def test_health_of_a_tier_that_fails_at_once_does_not_say_that_it_took_the_whole_time(watched: Watched) -> None:
    watched.backend.down = True
    health = await watched.tier.health(now=START)
    assert not health.ok
    assert health.latency_ms < 2_000


# Opening ------------------------------------------------------------------------------------------


async def test_a_tier_that_is_needed_must_answer(watched: Watched) -> None:
    other = Watched()
    other.backend.down = True
    with pytest.raises(BackendUnavailableError, match="nobody answers"):
        await other.tier.open(needed=True)


async def test_a_tier_that_does_not_answer_at_first_is_opened_when_it_does() -> None:
    watched = Watched()
    watched.backend.down = True
    await watched.tier.open(needed=False)
    assert watched.told == ["memory: nobody answers"]
    assert not (await watched.tier.health(now=START)).ok
    watched.backend.down = False
    await watched.ask()
    assert watched.told == ["memory: nobody answers", None]


async def test_a_tier_whose_data_cannot_be_used_is_not_gone_on_without() -> None:
    watched = Watched()

    async def refuse() -> None:
        raise SchemaError("memory", "newer than this perdure")

    watched.backend.open = refuse  # type: ignore[method-assign]
    with pytest.raises(SchemaError):
        await watched.tier.open(needed=False)


async def test_a_tier_that_was_closed_says_so(watched: Watched) -> None:
    await watched.tier.aclose()
    with pytest.raises(BackendClosedError):
        await watched.ask()
    assert (await watched.tier.health(now=START)).error == "not open"

"""Which parcels share a flight, and what a connection does with what comes on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from perdure.backends.redis import lanes
from perdure.backends.redis.lanes import Lane
from perdure.backends.redis.links import LostError, Parcel, link_of
from perdure.errors import BackendClosedError


class SlowLink:
    """Notes each flight, and lands it when it is told to."""

    is_open = True

    def __init__(self) -> None:
        self.flights: list[list[bytes]] = []
        self.go = asyncio.Event()

    async def fly(self, parcels: Sequence[Parcel], *, ends: float) -> None:
        self.flights.append([parcel.packed for parcel in parcels])
        await self.go.wait()
        for parcel in parcels:
            parcel.replies.append(parcel.packed.upper())
            parcel.land()


class NoPool:
    """Gives no connections: the lane has its link already."""

    async def release(self, connection: Any) -> None:
        raise AssertionError(connection)


@pytest.fixture
def link() -> SlowLink:
    return SlowLink()


@pytest.fixture
def lane(link: SlowLink) -> Lane:
    lane = Lane(NoPool(), patience_s=5)  # type: ignore[arg-type]
    lane._link = link
    return lane


def parcel(packed: bytes, *, seconds: float = 5, alone: bool = False) -> Parcel:
    return Parcel(packed, 1, asyncio.get_running_loop().time() + seconds, alone)


async def under_way(lane: Lane, *parcels: Parcel) -> list[asyncio.Task[list[Any]]]:
    """Sends the first, and lets the others wait behind it."""
    tasks = [asyncio.create_task(lane.send(one)) for one in parcels]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_waits_goes_together_in_its_order(lane: Lane, link: SlowLink) -> None:
    tasks = await under_way(lane, *(parcel(name) for name in (b"a", b"b", b"c", b"d")))

    assert lane.load == 4
    link.go.set()

    assert await asyncio.gather(*tasks) == [[b"A"], [b"B"], [b"C"], [b"D"]]
    assert link.flights == [[b"a"], [b"b", b"c", b"d"]]
    assert lane.load == 0


async def test_what_must_go_alone_does(lane: Lane, link: SlowLink) -> None:
    waiting = [parcel(b"a"), parcel(b"b"), parcel(b"c", alone=True), parcel(b"d"), parcel(b"e")]
    tasks = await under_way(lane, *waiting)
    link.go.set()
    await asyncio.gather(*tasks)

    assert link.flights == [[b"a"], [b"b"], [b"c"], [b"d", b"e"]]


async def test_a_flight_is_bounded_in_parcels_and_bytes(
    lane: Lane, link: SlowLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MOST_PARCELS", 3)
    monkeypatch.setattr(lanes, "MOST_BYTES", 10)
    names = [b"a", b"b", b"c", b"d", b"e", b"sixsix", b"seven", b"x" * 50, b"y"]
    tasks = await under_way(lane, *map(parcel, names))
    link.go.set()
    await asyncio.gather(*tasks)

    assert link.flights == [[b"a"], [b"b", b"c", b"d"], [b"e", b"sixsix"], [b"seven"], [b"x" * 50], [b"y"]]


async def test_what_was_cancelled_while_it_waited_is_never_sent(lane: Lane, link: SlowLink) -> None:
    tasks = await under_way(lane, parcel(b"a"), parcel(b"b"), parcel(b"c"))
    tasks[1].cancel()
    await asyncio.sleep(0)
    link.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert link.flights == [[b"a"], [b"c"]]


async def test_what_waited_past_its_time_is_never_sent_and_known_not_to_be(lane: Lane, link: SlowLink) -> None:
    tasks = await under_way(lane, parcel(b"a"), parcel(b"b", seconds=-1), parcel(b"c"))
    link.go.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert link.flights == [[b"a"], [b"c"]]
    assert isinstance(done[1], LostError)
    assert done[1].sent is False


async def test_a_cancelled_sender_leaves_the_others_their_flight(lane: Lane, link: SlowLink) -> None:
    tasks = await under_way(lane, parcel(b"a"), parcel(b"b"))
    tasks[0].cancel()
    await asyncio.sleep(0)
    link.go.set()

    assert await tasks[1] == [b"B"]


async def test_a_closed_lane_answers_what_it_has_and_takes_no_more(lane: Lane, link: SlowLink) -> None:
    tasks = await under_way(lane, parcel(b"a"), parcel(b"b"))
    closing = asyncio.create_task(lane.aclose())
    await asyncio.sleep(0)
    with pytest.raises(BackendClosedError):
        await lane.send(parcel(b"c"))
    link.go.set()

    assert await asyncio.gather(*tasks) == [[b"A"], [b"B"]]
    await closing


# Links ----------------------------------------------------------------------------------------------


class Connected:
    """What `link_of` looks at of a connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer


@pytest.fixture
async def answering() -> AsyncIterator[tuple[Any, list[bytes]]]:
    """A link to a server that answers whatever comes with the next of these."""
    answers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000) and answers:
            writer.write(answers.pop(0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield link_of(Connected(writer)), answers  # type: ignore[arg-type]
    writer.close()
    await writer.wait_closed()
    server.close()


async def test_replies_land_in_the_order_of_what_was_sent(answering: tuple[Any, list[bytes]]) -> None:
    link, answers = answering
    one, two = parcel(b"one"), Parcel(b"two", 3, 0)
    answers.append(b"+OK\r\n:1\r\n-OOM no room\r\n*1\r\n$1\r\nx\r\n")

    await link.fly([one, two], ends=asyncio.get_running_loop().time() + 5)

    assert one.replies == [b"OK"]
    assert [str(reply) for reply in two.replies] == ["1", "OOM no room", "[b'x']"]


async def test_what_a_server_tells_unasked_is_no_reply(answering: tuple[Any, list[bytes]]) -> None:
    link, answers = answering
    sent = parcel(b"one")
    answers.append(b">2\r\n+invalidate\r\n:1\r\n:7\r\n")

    await link.fly([sent], ends=asyncio.get_running_loop().time() + 5)

    assert sent.replies == [7]


async def test_the_reply_to_a_cancelled_flight_is_not_taken_for_that_of_the_next(
    answering: tuple[Any, list[bytes]],
) -> None:
    link, answers = answering
    ends = asyncio.get_running_loop().time() + 5
    first, second = parcel(b"first"), parcel(b"second")
    answers += [b"", b":1\r\n:2\r\n"]
    flying = asyncio.create_task(link.fly([first], ends=ends))
    await asyncio.sleep(0.01)
    flying.cancel()
    await asyncio.gather(flying, return_exceptions=True)

    await link.fly([second], ends=ends)

    assert (first.replies, second.replies) == ([1], [2])


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n:2\r\n"])
async def test_a_server_that_speaks_otherwise_is_given_up(answering: tuple[Any, list[bytes]], nonsense: bytes) -> None:
    link, answers = answering
    answers.append(nonsense)
    sent = parcel(b"one")

    with pytest.raises(Exception, match="another protocol"):
        await link.fly([sent, parcel(b"two")][: 1 if nonsense[:1] == b":" else 2], ends=sent.deadline)


async def test_a_broken_connection_ends_the_flight(answering: tuple[Any, list[bytes]]) -> None:
    link, _ = answering
    sent = parcel(b"one")

    with pytest.raises(Exception, match="closed the connection"):
        await link.fly([sent], ends=sent.deadline)

    assert not link.is_open


async def test_a_flight_ends_when_its_time_is_up(answering: tuple[Any, list[bytes]]) -> None:
    link, answers = answering
    answers.append(b"")

    with pytest.raises(TimeoutError):
        await link.fly([parcel(b"one")], ends=asyncio.get_running_loop().time() + 0.02)

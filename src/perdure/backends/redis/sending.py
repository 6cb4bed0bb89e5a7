"""Getting commands to the server of their bucket, and again where an attempt was in vain.

Every script can be sent again after its answer was lost: one that only reads does no harm, and one that writes is told
which attempt it is, and knows the mark that an earlier one left (a change its writer and id, a session its version and
head, and so on). So nothing below this sends anything twice, and this always says so when it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from hiredis import pack_command
from redis.backoff import FullJitterBackoff
from redis.exceptions import ResponseError

from perdure.backends.redis.lanes import MOST_BYTES, Lane
from perdure.backends.redis.links import LostError, Parcel
from perdure.backends.redis.meanings import NAME, PASSING, code_of, mapped
from perdure.backends.redis.scripting import Script
from perdure.backends.redis.servers import Servers
from perdure.errors import BackendClosedError, BackendError, ConfigurationError

__all__ = ["Call", "Transaction", "Wire", "Word"]

Word = str | bytes | int
"""What commands are made of."""
MOST_CALLS = 256
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.3
NONE_YET: Any = object()
"""What a call has for its reply until there is one."""


def packed(*words: Word) -> bytes:
    """A command as it is sent."""
    command: bytes = pack_command(words)  # type: ignore[arg-type]  # it takes any number of them
    return command


class Call:
    """One script with its keys and arguments, for the server of one bucket, and what became of it.

    A script that `writes` has the number of the attempt as its first argument.
    """

    __slots__ = ("arguments", "attempt", "bucket", "by_text", "keys", "reply", "script", "writes")

    commands = 1
    """How many replies it gets."""

    def __init__(
        self, script: Script, bucket: int, keys: Sequence[str], arguments: Iterable[Word], *, writes: bool = False
    ) -> None:
        self.script = script
        self.bucket = bucket
        self.keys = keys
        self.arguments: list[Word] = [1, *arguments] if writes else list(arguments)
        self.writes = writes
        self.attempt = 1
        self.by_text = False
        self.reply: Any = NONE_YET

    def packed(self) -> bytes:
        """What is sent."""
        name, known_by = ("EVAL", self.script.text) if self.by_text else ("EVALSHA", self.script.sha)
        return packed(name, known_by, len(self.keys), *self.keys, *self.arguments)

    def take(self, replies: Sequence[Any]) -> None:
        """Have the reply that these amount to."""
        self.reply = replies[0]

    def repeat(self) -> None:
        """It may have been run: the next one is another attempt."""
        self.attempt += 1
        if self.writes:
            self.arguments[0] = self.attempt


class Transaction(Call):
    """Two plain commands that only read, as of one instant: their replies, in a list."""

    __slots__ = ("_packed",)

    commands = 4

    def __init__(self, bucket: int, first: Sequence[Word], second: Sequence[Word]) -> None:
        super().__init__(_NO_SCRIPT, bucket, (), ())
        self._packed = b"".join((_BEGIN, packed(*first), packed(*second), _END))

    def packed(self) -> bytes:
        """See `Call.packed`."""
        return self._packed

    def take(self, replies: Sequence[Any]) -> None:
        """See `Call.take`: that of the end, or why it did not come to that."""
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        self.reply = refused[0] if refused else replies[-1]


_NO_SCRIPT = Script("", "", "")
_BEGIN, _END = packed("MULTI"), packed("EXEC")


class Wire:
    """Sends calls, and repeats them until they are answered or their time is up."""

    def __init__(self, servers: Servers, *, timeout_s: float) -> None:
        self.servers = servers
        self._timeout_s = timeout_s
        self.is_open = False
        self._under_way = 0
        self._idle = asyncio.Event()

    async def open(self) -> None:
        """Find the servers, and begin to send."""
        await self.servers.open()
        self.is_open = True

    async def aclose(self) -> None:
        """Send nothing more; what is under way is answered first. Repeatable."""
        if not self.is_open:
            return
        self.is_open = False
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()
        await self.servers.aclose()

    def require_open(self) -> None:
        """Raise `BackendClosedError` unless it is."""
        if not self.is_open:
            raise BackendClosedError(NAME)

    async def send(self, call: Call) -> Any:
        """The reply to one call.

        Raises:
            BackendError: as `mapped` says.
        """
        self.require_open()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        self._under_way += 1
        try:
            try:
                call.take(await self._lane(call).send(Parcel(call.packed(), call.commands, deadline)))
            except LostError as lost:
                _note_loss([call], lost)
                await self._persist([call], deadline, lost)
            if isinstance(call.reply, Exception):
                await self._persist([call], deadline, _refusal([call]))
        finally:
            self._landed()
        if isinstance(call.reply, Exception):
            raise mapped(call.reply) from call.reply
        return call.reply

    async def send_all(self, calls: Sequence[Call]) -> list[Any]:
        """The replies to calls, in one round trip to each server; a refusal is given in its place, as `mapped`.

        So is what kept one from being answered, unless it kept all.

        Raises:
            BackendError: none was answered in time.
        """
        self.require_open()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        self._under_way += 1
        try:
            lost = await self._attempt(calls, deadline)
            refused = _refusal(calls)
            await self._persist(calls, deadline, refused if lost is None else lost)
        except BackendError as error:
            if all(call.reply is NONE_YET for call in calls):
                raise
            return [error if call.reply is NONE_YET else _given(call.reply) for call in calls]
        finally:
            self._landed()
        return [_given(call.reply) for call in calls]

    async def everywhere(self, words: Sequence[Sequence[Word]]) -> list[list[Any]]:
        """The replies of each server to plain commands that are safe to repeat; a refusal is given in its place.

        Raises:
            BackendError: a server cannot be reached.
        """
        self.require_open()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        parts = b"".join([packed(*command) for command in words])
        self._under_way += 1
        try:
            return await asyncio.gather(
                *(server.reader().send(Parcel(parts, len(words), deadline)) for server in self.servers.every())
            )
        except LostError as lost:
            raise mapped(lost) from lost
        finally:
            self._landed()

    def _landed(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def _lane(self, call: Call) -> Lane:
        server = self.servers.of(call.bucket)
        return server.writer(call.bucket) if call.writes else server.reader()

    async def _attempt(self, calls: Iterable[Call], deadline: float, *, alone: bool = False) -> LostError | None:
        """Send calls, those for one lane together unless `alone`; gives a reason where some got no reply."""
        lanes: dict[Lane, list[Call]] = {}
        reading: dict[int, Lane] = {}
        for call in calls:
            server = self.servers.of(call.bucket)
            lane = self._lane(call) if call.writes else reading.setdefault(id(server), self._lane(call))
            lanes.setdefault(lane, []).append(call)
        flights = [
            self._fly(lane, flight, deadline, alone=alone)
            for lane, theirs in lanes.items()
            for flight in _flights(theirs, most=1 if alone else MOST_CALLS)
        ]
        losses = await _gathered(flights)
        return next((lost for lost in losses if lost is not None), None)

    async def _fly(
        self, lane: Lane, flight: Sequence[tuple[Call, bytes]], deadline: float, *, alone: bool
    ) -> LostError | None:
        commands = sum(call.commands for call, _ in flight)
        parcel = Parcel(b"".join([packed for _, packed in flight]), commands, deadline, alone)
        lost = None
        try:
            await lane.send(parcel)
        except LostError as error:
            lost = error
        first, unanswered = 0, []
        for call, _ in flight:
            replies = parcel.replies[first : first + call.commands]
            first += call.commands
            if len(replies) == call.commands:
                call.take(replies)
            else:
                unanswered.append(call)
        if lost is not None:
            _note_loss(unanswered, lost)
        return lost

    async def _persist(self, calls: Sequence[Call], deadline: float, reason: Exception | None) -> None:
        """Send again what has no reply, until all have one: `reason` says why some have none.

        After a pause, each alone, so that one that breaks the connection breaks it for no other; but at once and
        together, where all that was wrong is that the server did not know the script.

        Raises:
            BackendError: the time is up; says why the last attempt was in vain.
        """
        loop, backoff = asyncio.get_running_loop(), FullJitterBackoff(cap=LONGEST_PAUSE_S, base=FIRST_PAUSE_S)
        failures = 0
        while reason is not None:
            at_once = code_of(reason) == "NOSCRIPT"
            if not at_once:
                failures += 1
                pause = max(FIRST_PAUSE_S / 4, backoff.compute(failures))
                if not _is_transient(reason) or loop.time() + pause >= deadline:
                    raise mapped(reason) from reason
                await asyncio.sleep(pause)
                await self._look_again()
            pending = [call for call in calls if call.reply is NONE_YET]
            lost = await self._attempt(pending, deadline, alone=not at_once)
            refused = _refusal(pending)
            if lost is None:
                reason = refused
            elif at_once or loop.time() < deadline:  # else what went before says more than that the time is up
                reason = lost

    async def _look_again(self) -> None:
        with suppress(BackendError, ConfigurationError):  # the next attempt says as much
            await self.servers.look_again()


def _given(reply: Any) -> Any:
    return mapped(reply) if isinstance(reply, Exception) else reply


async def _gathered(flights: Sequence[Awaitable[LostError | None]]) -> Sequence[LostError | None]:
    return [await flights[0]] if len(flights) == 1 else await asyncio.gather(*flights)


def _note_loss(calls: Iterable[Call], lost: LostError) -> None:
    if lost.sent:
        for call in calls:
            call.repeat()


def _refusal(calls: Iterable[Call]) -> Exception | None:
    """Why some replies are refusals that another attempt may not meet; such calls have no reply yet.

    A script that the server does not know goes with its text then. Any other reason is told before that.
    """
    found: Exception | None = None
    for call in calls:
        code = code_of(call.reply) if isinstance(call.reply, Exception) else None
        if code in PASSING or (code == "NOSCRIPT" and not call.by_text):
            if found is None or code != "NOSCRIPT":
                found = call.reply
            call.by_text = call.by_text or code == "NOSCRIPT"
            call.reply = NONE_YET
    return found


def _is_transient(reason: Exception) -> bool:
    """Whether it is worth another attempt: a wrong password stays wrong."""
    told = reason.__cause__ if isinstance(reason, LostError | BackendError) else reason
    code = code_of(told) if told is not None else None
    return code in PASSING or (code is None and not isinstance(told, ResponseError))


def _flights(calls: Iterable[Call], *, most: int) -> Iterator[list[tuple[Call, bytes]]]:
    """Groups of calls, packed, that fit into a flight each."""
    flight: list[tuple[Call, bytes]] = []
    size = 0
    for call in calls:
        packed = call.packed()
        if flight and (len(flight) == most or size + len(packed) > MOST_BYTES):
            yield flight
            flight, size = [], 0
        flight.append((call, packed))
        size += len(packed)
    if flight:
        yield flight

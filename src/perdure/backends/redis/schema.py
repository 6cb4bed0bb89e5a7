"""For operators: the layout of the data, whether its indices are true, and the end of it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from perdure.backends.redis.address import RedisAddress
from perdure.backends.redis.checking import FORMAT, check_layout, check_servers, facts_of, layout_of
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.listing import id_of
from perdure.backends.redis.meanings import NAME
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire
from perdure.errors import SchemaError

__all__ = ["RedisSchema"]

AT_ONCE = 200
"""Entries of an index that one script looks at, or sessions that are forgotten at once."""

MOST_SENTENCES = 200


class RedisSchema:
    """A `SchemaAdmin`. There are no tables to make: what is noted is how many buckets the data is in."""

    def __init__(self, address: RedisAddress, layout: Layout, wire: Callable[[], Wire]) -> None:
        self._address = address
        self._layout = layout
        self._wire = wire

    async def create(self) -> None:
        """See `SchemaAdmin.create`."""
        async with self._opened() as wire:
            await check_layout(wire, self._layout)

    async def upgrade(self) -> tuple[str | None, str]:
        """See `SchemaAdmin.upgrade`: there is one layout so far."""
        async with self._opened() as wire:
            if await layout_of(wire, self._layout) is None:
                raise SchemaError(NAME, f"nothing is kept under {self._layout.namespace!r}; run `perdure db create`")
            await check_layout(wire, self._layout)
        return str(FORMAT), str(FORMAT)

    async def verify(self) -> list[str]:
        """See `SchemaAdmin.verify`: every index has what belongs there and nothing else.

        Looks at each entry of each index, a few hundred at a time: what changes meanwhile may be reported wrongly.
        """
        async with self._opened() as wire:
            if await layout_of(wire, self._layout) is None:
                return [f"nothing is kept under the namespace {self._layout.namespace!r}"]
            await check_layout(wire, self._layout)
            sentences: list[str] = []
            for bucket in range(self._layout.buckets):
                async for sentence in self._problems_in(wire, bucket):
                    sentences.append(sentence)
                    if len(sentences) == MOST_SENTENCES:
                        return [*sentences, "and perhaps more: this was the limit"]
        return sentences

    async def _problems_in(self, wire: Wire, bucket: int) -> AsyncIterator[str]:
        labels: set[str] = set()
        for name in ("a:all", "z:all", "due", "old"):
            async for problem in self._problems_of(wire, bucket, name, labels):
                yield problem
        for label in sorted(labels - {"all"}):
            for kind in ("a", "z"):
                async for problem in self._problems_of(wire, bucket, f"{kind}:{label}", labels):
                    yield problem

    async def _problems_of(self, wire: Wire, bucket: int, name: str, labels: set[str]) -> AsyncIterator[str]:
        base, first = self._layout.bases[bucket], 0
        while True:
            arguments = (base, name, first, first + AT_ONCE - 1)
            count, seen, wrong = await wire.send(Call(script("verify"), bucket, (f"{base}:{name}",), arguments))
            labels.update(label.decode() for label in seen)
            for raw, sentence in wrong:
                yield f"session {id_of(raw)} {sentence.decode('utf-8', 'backslashreplace')}"
            if count < AT_ONCE:
                return
            first += AT_ONCE

    async def drop(self) -> None:
        """See `SchemaAdmin.drop`: session by session, through the indices; other namespaces and keys stay."""
        async with self._opened() as wire:
            if await layout_of(wire, self._layout) is None:
                return
            for bucket in range(self._layout.buckets):
                for name in ("a:all", "z:all", "due", "old"):
                    await self._discard(wire, bucket, f"{self._layout.bases[bucket]}:{name}")
                rest = (self._layout.tombs(bucket), *self._layout.tickets(bucket), *self._layout.purged(bucket))
                await wire.send(Call(script("clear"), bucket, rest, ()))
            await wire.send(Call(script("clear"), 0, (self._layout.sweep, self._layout.meta), ()))

    async def _discard(self, wire: Wire, bucket: int, index: str) -> None:
        """Forget the sessions in an index, and then the index: its last entries may name what is nothing."""
        while ids := await wire.send(Call(script("window"), bucket, (index,), (AT_ONCE,))):
            calls = [
                Call(script("discard"), bucket, (f"{self._layout.bases[bucket]}:s:{raw.hex()}",), (raw,)) for raw in ids
            ]
            for reply in await wire.send_all(calls):
                if isinstance(reply, Exception):
                    raise reply
            await wire.send(Call(script("forget_ids"), bucket, (index,), ids))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Wire]:
        wire = self._wire()
        await wire.open()
        try:
            check_servers(await facts_of(wire), self._address)
            yield wire
        finally:
            await wire.aclose()

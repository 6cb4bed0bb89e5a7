"""A process that does everything in bulk, in random orders, on sessions that others work on as well.

`python bulk_child.py URL SEED SECONDS`: prints what failed as JSON; refusals that the contract names are no failures.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from uuid import UUID

from perdure.backends.sql.postgres import PostgresBackend
from perdure.errors import SessionError
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session

IDS = [UUID(int=number << 64) for number in range(1, 81)]
LATER = START + timedelta(hours=2)
HOUR = timedelta(hours=1)


class Worker:
    """One process's work."""

    def __init__(self, url: str, seed: int) -> None:
        self.backend = PostgresBackend(url)
        self.rng = random.Random(seed)
        self.maker = ChangeMaker()
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []

    def some(self, most: int = 60) -> list[UUID]:
        """Ids in any order."""
        return self.rng.sample(IDS, self.rng.randint(2, most))

    def session(self, session_id: UUID) -> StoredSession:
        """A copy of its own, which nobody else's is an earlier state of."""
        tag = self.rng.choice("abc")
        return stored_session(
            id=session_id,
            version=self.rng.randint(1, 9),
            tags=(tag,),
            queries=(stored_query(),),
            sections={"context": {tag: 1}},
        )

    async def absorb(self) -> None:
        await self.backend.absorb([self.session(known) for known in self.some()])

    async def apply(self) -> None:
        content: list[dict[str, Any]] = [{}, {"add_tags": ("x",)}, {"set_entries": {"context": {"k": "1"}}}]
        changes = [(known, self.maker.query(**self.rng.choice(content))) for known in self.some()]
        await self._all([self.backend.apply(known, change) for known, change in changes])

    async def archive(self) -> None:
        claimed = await self.backend.claim_expired(now=LATER, lease=timedelta(0), limit=40, max_bytes=2**30)
        sessions = list(claimed)
        self.rng.shuffle(sessions)

        async def deliver(archived: object) -> None:
            await asyncio.sleep(0)

        await self.backend.archive(sessions, at=LATER, deliver=deliver)

    async def delete(self) -> None:
        await self._all([self.backend.delete(known, forget_at=START) for known in self.some(8)])

    async def evict(self) -> None:
        for known, copy in (await self.backend.copies(self.some(10))).items():
            await self.backend.evict(known, version=getattr(copy, "version", 0), head=getattr(copy, "head", ""))

    async def purge(self) -> None:
        among = self.rng.choice([None, self.some()])
        await self.backend.purge(archived_before=LATER + HOUR, now=LATER, limit=30, among=among)

    async def create(self) -> None:
        await self._all([self.backend.create(self.session(known)) for known in self.some(10)])

    async def ticket(self) -> None:
        for known in self.some(10):
            await self.backend.ticket(known, now=START)

    async def _all(self, calls: list[Awaitable[Any]]) -> None:
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, SessionError):
                raise outcome

    async def work(self, seconds: float) -> None:
        """Until the time is up, several kinds at once."""
        await self.backend.open()
        end = time.monotonic() + seconds
        kinds = [self.absorb, self.apply, self.archive, self.delete, self.evict, self.purge, self.create, self.ticket]

        async def one() -> None:
            while time.monotonic() < end:
                kind = self.rng.choices(kinds, weights=[4, 6, 3, 1, 1, 1, 2, 1])[0]
                try:
                    await kind()
                except SessionError:
                    pass
                except Exception as error:  # noqa: BLE001 (the parent is told)
                    self.failed.append(f"{kind.__name__}: {error!r}")
                else:
                    self.done[kind.__name__] += 1

        await asyncio.gather(*(one() for _ in range(4)))
        await self.backend.aclose()


if __name__ == "__main__":
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    asyncio.run(worker.work(float(sys.argv[3])))
    print(json.dumps({"done": worker.done, "failed": worker.failed}))

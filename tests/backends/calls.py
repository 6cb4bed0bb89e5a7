"""Every call that a backend takes."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from perdure.backends import SessionBackend
from perdure.models import SessionFilter, StatsFilter
from perdure.testing import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import ANY_SIZE, EXPIRY, FOREVER, HOUR, MINUTE, numbered

__all__ = ["whole_life"]


async def deliver(_: object) -> None:
    """Hears of what was archived."""


async def whole_life(backend: SessionBackend) -> None:
    """Every method, on sessions that have everything."""
    session = stored_session(
        queries=numbered(30), sections={"context": {"a": 1}, "metadata": {"b": "ü"}}, tags=("x", "y"), assets=("A", "B")
    )
    await backend.create(session)
    writer = ChangeMaker()
    await backend.apply(session.id, writer.query(set_entries={"context": {"c": "1"}}, unset_entries={"context": ["a"]}))
    await backend.apply(session.id, writer.change(add_tags=("z",), remove_assets=("A",), expires_at=EXPIRY + HOUR))
    await backend.apply(session.id, ChangeMaker().query(owner="analyst", max_queries=500, max_state_bytes=10_000))
    await backend.read(session.id, history=10)
    await backend.read(session.id)
    await backend.queries(session.id, after=3, limit=5)
    for wanted in (SessionFilter(), SessionFilter(user_id="analyst", tags=("x",), archived=False)):
        page = await backend.find(wanted, limit=1)
        await backend.find(wanted, cursor=page.next_cursor, limit=1)
    await backend.aggregate(SessionFilter(tags=("x",)))
    others = [stored_session(queries=numbered(3), tags=("x",)) for _ in range(20)]
    await backend.absorb(others)
    fork = stored_session(id=others[0].id, queries=(stored_query("fork"),))
    await backend.absorb([fork])
    claimed = await backend.claim_expired(now=EXPIRY + 2 * HOUR, lease=MINUTE, limit=10, max_bytes=ANY_SIZE)
    await backend.archive(claimed.sessions, at=EXPIRY + 2 * HOUR, deliver=deliver)
    await backend.copies([other.id for other in others])
    ticket = await backend.ticket(uuid4(), now=START)
    slot = stored_session()
    await backend.absorb([slot], tickets={slot.id: ticket})
    await backend.evict(others[-1].id, version=1, head=others[-1].head)
    await backend.delete(others[-2].id, forget_at=FOREVER)
    await backend.record([stored_session(queries=numbered(3))], at=EXPIRY)
    await backend.roll_up(limit=5)
    await backend.measure(StatsFilter(user_id="analyst"), now=EXPIRY, with_ids=True)
    page_of_metrics = await backend.metrics(StatsFilter(), limit=1)
    await backend.metrics(StatsFilter(), cursor=page_of_metrics.next_cursor, limit=1)
    await backend.purge(archived_before=FOREVER, now=START, limit=3)
    await backend.start_sweep(now=START, interval=HOUR)
    await backend.health(now=FOREVER)
    if backend.cache is not None:
        kept = stored_session(queries=numbered(3))
        ticket = await backend.cache.ticket(kept.id)
        await backend.cache.fill(kept, ticket=ticket, lifetime=timedelta(seconds=30))
        await backend.cache.read(kept.id, history=2)
        await backend.cache.drop([kept.id])

"""`perdure demo`: the first run begins a session, the second goes on with it."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cli.running import CommandLine, finished

from perdure import SessionFilter, SessionStore
from perdure.cli.demo import command
from perdure.cli.demo.analysis import Volatility, load_closes, volatility
from perdure.cli.demo.comparison import PERIODS, Comparison
from perdure.errors import SessionNotFoundError
from perdure.testing import ManualClock


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to expire does so soon."""
    monkeypatch.setattr(command, "SHORT_LIFE", timedelta(seconds=0.6))


def test_the_first_run_begins_a_session_of_tracked_queries(perdure: CommandLine) -> None:
    shown = perdure.json("demo")

    assert (shown["session"]["continued"], shown["previous_query"]) == (False, None)
    kinds = [query["query_type"] for query in shown["queries"]]
    assert [kinds.count(kind) for kind in ("price", "total_return", "volatility", "drawdown", "correlation")] == [
        5,
        5,
        6,
        1,
        4,
    ]
    kept = perdure.json("sessions", "show", shown["session"]["id"])
    assert (kept["user_id"], kept["type"], kept["assets"]) == ("demo", "comparative", list(load_closes()))
    assert kept["state"]["history"]["queries"] == shown["queries"]
    assert len(kept["state"]["intermediate_results"]) == 20
    assert all(query["execution_time_ms"] > 0 for query in shown["queries"])


def test_what_was_found_decides_what_is_asked_next(perdure: CommandLine) -> None:
    shown = perdure.json("demo")

    closes = load_closes()
    focus = max(closes, key=lambda symbol: volatility(closes, symbol).annualised)
    assert shown["context"]["focus"] == focus
    (fall,) = (query for query in shown["queries"] if query["query_type"] == "drawdown")
    assert fall["parameters"] == {"symbols": [focus]}


def test_a_query_that_was_asked_before_is_a_cache_hit_with_the_same_answer(perdure: CommandLine) -> None:
    queries = perdure.json("demo")["queries"]

    *earlier, last = queries
    assert last["cache_hit"] is True
    (first,) = (query for query in earlier if query["parameters"] == last["parameters"] and _same_kind(query, last))
    assert (first["cache_hit"], first["result_summary"]) == (False, last["result_summary"])


def test_the_second_run_finds_the_session_and_goes_on(perdure: CommandLine) -> None:
    first, second = perdure.json("demo"), perdure.json("demo")

    assert second["session"]["id"] == first["session"]["id"]
    assert (second["session"]["continued"], second["session"]["restored"]) == (True, False)
    assert second["previous_query"] == first["queries"][-1]
    assert [query["position"] for query in second["queries"]] == list(range(22, 31))
    assert second["session"]["total_queries"] == 30
    assert second["context"]["period"] == next(iter(PERIODS))
    assert 0 < sum(query["cache_hit"] for query in second["queries"]) < len(second["queries"])
    assert second["comparison"] == first["comparison"]


def test_the_expired_session_is_archived_and_readable_and_takes_no_writes(perdure: CommandLine) -> None:
    expired = perdure.json("demo")["expired"]

    assert (expired["is_archived"], len(expired["queries"])) == (True, 1)
    assert "IBM: $125.55" in expired["queries"][0]["result_summary"]
    assert "was archived" in expired["refusal"]
    archived = perdure.json("sessions", "list", "--archived")["sessions"]
    assert [entry["id"] for entry in archived] == [expired["id"]]


def test_the_story_is_told_within_80_columns(perdure: CommandLine) -> None:
    first, second = perdure.run("demo", env={"COLUMNS": "80"}), perdure.run("demo", env={"COLUMNS": "80"})

    for told in (first.stdout, second.stdout):
        assert max(map(len, told.splitlines())) <= 80
        assert "AMZN: fell 91 % from 2000-02 to 2001-09" in told
        assert "perdure sessions show " in told
        assert "It takes no more writes" in told
    assert "A new session of the user 'demo'" in first.stdout
    assert "Found your session" in second.stdout
    assert "Your previous query was volatility:" in second.stdout


def test_a_session_that_expired_meanwhile_is_brought_back(perdure: CommandLine) -> None:
    first = perdure.json("demo")
    later = ManualClock(datetime.now(UTC) + timedelta(days=2))
    perdure.within(lambda store: store.cleanup_expired_sessions(), clock=later)

    second, third = perdure.json("demo"), perdure.text("demo")

    assert second["session"]["id"] == first["session"]["id"]
    assert second["session"]["restored"] is True
    assert "It had expired" not in third


def test_a_restored_session_is_announced(perdure: CommandLine) -> None:
    perdure.json("demo")
    later = ManualClock(datetime.now(UTC) + timedelta(days=2))
    perdure.within(lambda store: store.cleanup_expired_sessions(), clock=later)

    assert "It had expired; extend_session brought it back" in perdure.text("demo")


def test_a_session_without_room_is_left_alone(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SESSION_MAX_QUERIES_PER_SESSION", "50")

    runs = [perdure.json("demo")["session"]["id"] for _ in range(2)]

    assert len(set(runs)) == 2


def test_sessions_of_others_are_not_taken_for_the_demo(perdure: CommandLine) -> None:
    other = perdure.session(user_id="demo", session_type="comparative")
    begun = perdure.session(
        user_id="demo", session_type="comparative", tags=[command.TAG]
    )  # not by the demo: unfinished

    shown = perdure.json("demo")

    assert shown["session"]["continued"] is False
    assert shown["session"]["id"] not in (str(other.id), str(begun.id))


async def test_in_the_end_every_company_has_been_the_focus() -> None:
    async with SessionStore.open("memory://") as store:
        made = await store.create_session(load_closes(), "comparative")
        comparison = Comparison(store, made.id, load_closes())
        await comparison.begin()

        seen: list[Any] = []
        for _ in range(5 * len(PERIODS)):
            await comparison.go_on()
            context = (await comparison.session()).state.context
            seen.append((context["focus"], context["period"]))

        assert len(set(seen)) == 5 * len(PERIODS)
        totals = await store.get_totals(SessionFilter())
        assert totals.errors == 0
        before = totals.cache_hits
        await comparison.go_on()  # all of it was asked before
        assert (await store.get_totals()).cache_hits == before + 9


async def test_a_repeated_query_is_answered_by_the_session_and_not_computed_again() -> None:
    async with SessionStore.open("memory://") as store:
        made = await store.create_session(["IBM"], "equity")
        comparison = Comparison(store, made.id, load_closes())
        first = await comparison.ask("volatility", "IBM")
        assert isinstance(first, Volatility)
        await store.store_intermediate_result(made.id, "volatility IBM", dataclasses.replace(first, annualised=7.0))

        second = await comparison.ask("volatility", "IBM")

        assert second == dataclasses.replace(first, annualised=7.0)


async def test_a_session_that_is_deleted_meanwhile_is_missed() -> None:
    async with SessionStore.open("memory://") as store:
        made = await store.create_session(["IBM"], "equity")
        await store.delete_session(made.id)

        with pytest.raises(SessionNotFoundError):
            await Comparison(store, made.id, load_closes()).session()


def test_two_runs_of_the_installed_program_take_less_than_four_seconds_each() -> None:
    results = []
    for _ in range(2):
        began = time.monotonic()
        code, out, err = finished(CommandLine().start("demo", "--json"))
        assert (code, err) == (0, "")
        results.append((json.loads(out), time.monotonic() - began))

    (first, _), (second, _) = results
    assert second["session"]["id"] == first["session"]["id"]
    assert max(seconds for _, seconds in results) < 20  # 4 on a machine that does nothing else


def _same_kind(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["query_type"] == other["query_type"])

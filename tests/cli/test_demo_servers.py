"""`perdure demo --servers`: the same story, on a Redis and a Postgres that are started for it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.cli.running import CommandLine

from perdure.cli.demo import command

pytestmark = pytest.mark.xdist_group("servers")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to expire does so soon."""
    monkeypatch.setattr(command, "SHORT_LIFE", timedelta(seconds=0.6))


def test_the_demo_runs_on_real_servers() -> None:
    result = CommandLine().run("demo", "--servers", "--json")

    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["store"].startswith("redis://127.0.0.1:")
    assert (shown["session"]["continued"], shown["session"]["total_queries"]) == (False, 21)
    assert shown["expired"]["is_archived"] is True
    assert len(shown["expired"]["queries"]) == 1
    assert "was archived" in shown["expired"]["refusal"]


def test_the_story_says_where_it_took_place_and_what_to_do_next() -> None:
    result = CommandLine().run("demo", "--servers", env={"COLUMNS": "80"})

    assert result.exit_code == 0, result.stderr
    assert "The store is redis://127.0.0.1:" in result.stdout
    assert "Expired sessions go to postgresql://perdure@127.0.0.1:" in result.stdout
    assert "perdure dev-servers" in result.stdout
    assert "finds this session" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80

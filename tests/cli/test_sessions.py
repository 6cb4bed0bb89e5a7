"""`perdure sessions …`"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.cli.running import CommandLine

WIDE = {"COLUMNS": "200"}


def test_a_listing_shows_newest_first_and_whole_ids(perdure: CommandLine) -> None:
    older, newer = perdure.session(age=timedelta(hours=1)), perdure.session()

    listing = perdure.text("sessions", "list")

    assert listing.index(str(newer.id)) < listing.index(str(older.id))
    assert "active for 24 h" in listing


@pytest.mark.parametrize("columns", ["80", "200"])
def test_a_listing_fits_the_terminal(perdure: CommandLine, columns: str) -> None:
    session = perdure.session(assets=["A" * 40, "B", "C", "D", "E"])

    result = perdure.run("sessions", "list", env={"COLUMNS": columns})

    assert str(session.id) in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= int(columns)


def test_a_listing_as_json_has_summaries_and_a_cursor(perdure: CommandLine) -> None:
    made = [perdure.session() for _ in range(3)]

    first = perdure.json("sessions", "list", "--limit", "2")
    second = perdure.json("sessions", "list", "--limit", "2", "--cursor", first["next_cursor"])

    assert [entry["id"] for page in (first, second) for entry in page["sessions"]] == [
        str(s.id) for s in reversed(made)
    ]
    assert second["next_cursor"] is None
    assert {"user_id", "type", "assets", "total_queries", "is_archived", "is_expired"} <= first["sessions"][0].keys()


def test_a_listing_says_on_stderr_how_to_go_on(perdure: CommandLine) -> None:
    perdure.session()
    perdure.session()

    result = perdure.run("sessions", "list", "--limit", "1")

    assert "--cursor " in result.stderr
    assert "--cursor" not in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--user", "bob"],
        ["--type", "macro"],
        ["--asset", "GOLD"],
        ["--asset", "GOLD", "--asset", "OIL"],
        ["--tag", "x"],
        ["--archived"],
        ["--until", "36h"],
        ["--until", (datetime.now(UTC) - timedelta(days=1.5)).isoformat()],
    ],
)
def test_every_filter_finds_one_of_two(perdure: CommandLine, options: list[str]) -> None:
    perdure.session()
    wanted = perdure.archived(
        age=timedelta(days=1), user_id="bob", session_type="macro", assets=["GOLD", "OIL"], tags=["x"]
    )

    listing = perdure.json("sessions", "list", *options)

    assert [entry["id"] for entry in listing["sessions"]] == [str(wanted.id)]


@pytest.mark.parametrize("options", [["--active"], ["--since", "2h"], ["--since", "2020-01-01", "--user", "ann"]])
def test_the_other_filters_find_the_other(perdure: CommandLine, options: list[str]) -> None:
    wanted = perdure.session()
    perdure.archived(age=timedelta(days=1), user_id="bob")

    listing = perdure.json("sessions", "list", *options)

    assert [entry["id"] for entry in listing["sessions"]] == [str(wanted.id)]


def test_an_empty_listing_says_so_on_stderr(perdure: CommandLine) -> None:
    everything, some = perdure.run("sessions", "list"), perdure.run("sessions", "list", "--user", "nobody")

    assert (everything.stdout, everything.stderr) == ("", "no sessions\n")
    assert (some.stdout, some.stderr) == ("", "no such sessions\n")


def test_show_shows_every_section_and_the_newest_queries(perdure: CommandLine) -> None:
    session = perdure.session(queries=12, tags=["tech"])

    result = perdure.run("sessions", "show", str(session.id), env=WIDE)

    for expected in ("focus", "Zürich", "detail", "AAPL, GOOGL", "tech", "answer 12", "12, 1 of them cache hits"):
        assert expected in result.stdout
    assert "answer 2 " not in result.stdout
    assert "2 earlier queries: perdure sessions history" in result.stderr


def test_what_sessions_hold_is_shown_as_text_and_steers_no_terminal(perdure: CommandLine) -> None:
    session = perdure.session()

    shown = perdure.run("sessions", "show", str(session.id), env=WIDE).stdout

    assert "Zürich [red] \\x1b[2J" in shown
    assert "\x1b" not in shown


def test_show_as_json_is_the_whole_session(perdure: CommandLine) -> None:
    session = perdure.session(queries=12)

    shown = perdure.json("sessions", "show", str(session.id))

    assert shown == session.to_dict()


def test_an_expired_session_says_so(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SWEEP_ON_OPEN", "false")
    session, other = perdure.session(age=timedelta(days=3)), perdure.session()
    perdure.text("sessions", "archive", str(other.id))

    shown, listed = perdure.text("sessions", "show", str(session.id)), perdure.text("sessions", "list")

    assert "expired 2 d ago" in shown
    assert re.search(r"archived \d+ s ago", listed)


def test_history_is_paged_in_both_directions(perdure: CommandLine) -> None:
    session = perdure.session(queries=5)

    def page(*options: str) -> tuple[list[int], int | None, int | None]:
        shown = perdure.json("sessions", "history", str(session.id), *options)
        return [query["position"] for query in shown["queries"]], shown["next_before"], shown["next_after"]

    assert page() == ([1, 2, 3, 4, 5], None, None)
    assert page("--limit", "2") == ([1, 2], None, 2)
    assert page("--after", "2", "--limit", "2") == ([3, 4], 3, 4)
    assert page("--before", "4", "--limit", "2") == ([2, 3], 2, 3)
    assert page("--last", "2") == ([4, 5], 4, None)
    assert page("--after", "9") == ([], None, None)


def test_history_shows_results_errors_and_cache_hits(perdure: CommandLine) -> None:
    session = perdure.session(queries=3)

    result = perdure.run("sessions", "history", str(session.id), "--limit", "3", env=WIDE)

    assert "answer 1 second line" in result.stdout
    assert "cached" in result.stdout
    assert "TimeoutError: no answer" in result.stdout


def test_history_says_how_to_go_on_and_where_there_is_nothing(perdure: CommandLine) -> None:
    session, empty = perdure.session(queries=3), perdure.session(queries=0)

    assert perdure.run("sessions", "history", str(session.id), "--limit", "2").stderr == "1 later queries: --after 2\n"
    assert perdure.run("sessions", "history", str(session.id), "--after", "7").stderr == (
        "no queries there; the session has 3\n"
    )
    assert perdure.run("sessions", "history", str(empty.id)).stderr == "no queries\n"


def test_extend_restores_an_archived_session(perdure: CommandLine) -> None:
    session = perdure.archived(age=timedelta(days=1))

    shown = perdure.json("sessions", "extend", str(session.id), "--hours", "1.5")
    again = perdure.text("sessions", "extend", str(session.id))

    left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1.4) < left <= timedelta(hours=1.5)
    assert shown["is_archived"] is False
    assert f"session {session.id} expires at " in again
    assert "(in 25 h)" in again or "(in 26 h)" in again


def test_archive_says_whether_it_changed_anything(perdure: CommandLine) -> None:
    session = perdure.session()

    first = perdure.json("sessions", "archive", str(session.id))
    second = perdure.json("sessions", "archive", str(session.id))

    assert (first["changed"], first["is_archived"], second["changed"]) == (True, True, False)
    assert perdure.text("sessions", "archive", str(session.id)) == f"session {session.id} was archived already\n"


def test_delete_is_for_good(perdure: CommandLine) -> None:
    first, second = perdure.session(), perdure.session()

    assert perdure.json("sessions", "delete", str(first.id)) == {"id": str(first.id), "deleted": True}
    assert perdure.text("sessions", "delete", str(second.id)) == f"session {second.id} is deleted\n"
    assert perdure.found(first) is None


@pytest.mark.parametrize("verb", ["show", "history", "extend", "archive", "delete"])
def test_a_session_that_is_not_there_is_a_failure(perdure: CommandLine, verb: str) -> None:
    unknown = str(uuid4())

    assert perdure.error("sessions", verb, unknown, code=1) == f"no session {unknown}"


@pytest.mark.parametrize("verb", ["show", "history", "extend", "archive", "delete"])
def test_what_is_no_id_is_wrong_input(perdure: CommandLine, verb: str) -> None:
    assert "not a session id" in perdure.error("sessions", verb, "nonsense\n", code=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["list", "--since", "yesterday"], "'yesterday' is no time"),
        (["list", "--until", "9999999999d"], "is no time"),
        (["list", "--limit", "0"], "limit must be"),
        (["list", "--cursor", "x"], "not a cursor"),
        (["list", "--type", "Two Words"], "session_type must be a lower-case slug"),
        (["list", "--user", " "], "user_id must not be empty"),
        (["extend", str(uuid4()), "--hours", "999"], "at most 168 hours"),
        (["extend", str(uuid4()), "--hours", "many"], "--hours"),
        (["history", str(uuid4()), "--last", "2", "--after", "1"], "not together"),
        (["show"], "Missing argument 'ID'"),
        (["lst"], "Did you mean 'list'"),
    ],
)
def test_wrong_input_is_named(perdure: CommandLine, options: list[str], said: str) -> None:
    assert said in perdure.error("sessions", *options, code=2)

"""Running the command line in this process or in another one, and filling the store that it is to find."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from typer.testing import CliRunner, Result

from perdure import QueryRecord, Session, SessionStore, Settings
from perdure.cli.app import app
from perdure.testing import ManualClock

T = TypeVar("T")

QUIET = {"sweep_on_open": False, "sweep_in_background": False}


class CommandLine:
    """`perdure …` on one store: that of `url`, or the one of the environment."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url

    @property
    def _where(self) -> list[str]:
        return [] if self.url is None else ["--url", self.url]

    def run(self, *words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:
        """Whatever comes of it."""
        return CliRunner().invoke(app, [*self._where, *words], input=stdin, env=env)

    def text(self, *words: str, stdin: str | bytes | None = None, code: int = 0) -> str:
        """What it prints for people."""
        result = self.run(*words, stdin=stdin)
        assert (result.exit_code, result.stderr if result.exit_code != code else "") == (code, "")
        return result.stdout

    def json(self, *words: str, stdin: str | bytes | None = None, code: int = 0) -> Any:
        """What it prints for programs; nothing else may be on stdout."""
        return json.loads(self.text(*words, "--json", stdin=stdin, code=code))

    def error(self, *words: str, code: int) -> str:
        """The one line that says what is wrong."""
        result = self.run(*words)
        lines = result.stderr.splitlines()
        assert (result.exit_code, len(lines), result.stdout) == (code, 1, ""), result.output
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    def within(self, work: Callable[[SessionStore], Awaitable[T]], *, clock: ManualClock | None = None) -> T:
        """Do something with the store itself, which sweeps nothing meanwhile."""

        async def run() -> T:
            settings = Settings(url=self.url, **QUIET)
            async with SessionStore.open(settings=settings, clock=clock or (lambda: datetime.now(UTC))) as store:
                return await work(store)

        return asyncio.run(run())

    def session(self, *, queries: int = 2, age: timedelta = timedelta(0), **given: Any) -> Session:
        """A session in the store that was made `age` ago, to live a day; what it holds is awkward on purpose."""
        clock = ManualClock(datetime.now(UTC) - age)
        facts: dict[str, Any] = {"assets": ["AAPL", "GOOGL"], "session_type": "comparative", "user_id": "ann"}

        async def create(store: SessionStore) -> Session:
            made = await store.create_session(**{**facts, **given}, context={"focus": "Zürich [red] \x1b[2J"})
            for number in range(1, queries + 1):
                query = QueryRecord(
                    timestamp=clock(),
                    query_type="price",
                    parameters={"symbol": "AAPL", "large": 2**70, "small": 1e-300, "number": number},
                    result_summary=f"answer {number}\nsecond line",
                    execution_time_ms=1.5,
                    cache_hit=number == 2,
                    error="TimeoutError: no answer" if number == 3 else None,
                )
                await store.track_query(made.id, query)
            await store.update_preferences(made.id, detail={"level": [1, 2.0, None, True]})
            await store.store_intermediate_result(made.id, "r", -0.0)
            found = await store.get_session(made.id)
            assert found is not None
            return found

        return self.within(create, clock=clock)

    def archived(self, *, age: timedelta, **given: Any) -> Session:
        """A session that was archived `age` ago."""
        session = self.session(age=age + timedelta(days=1), **given)

        async def sweep(store: SessionStore) -> Session:
            await store.cleanup_expired_sessions()
            found = await store.get_session(session.id)
            assert found is not None
            return found

        return self.within(sweep, clock=ManualClock(datetime.now(UTC) - age))

    def found(self, session: Session) -> Session | None:
        """The session as the store has it now."""
        return self.within(lambda store: store.get_session(session.id))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        command = [sys.executable, "-m", "perdure", *self._where, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def finished(process: subprocess.Popen[bytes], *, within_seconds: float = 60) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process."""
    out, err = process.communicate(timeout=within_seconds)
    return process.returncode, out.decode(), err.decode()

"""Leaving alone what fails again and again; a library keeps the count, and this says what counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import HALF_OPENED, OpenedState

from perdure.errors import BackendUnavailableError

__all__ = ["FAILURES", "Breaker", "LeftAlone"]

FAILURES = 5
"""Calls in a row that fail before no more are made for a while."""


class LeftAlone(Exception):  # noqa: N818 (it is caught where it is raised to, and says what is done)
    """The call was not made."""


class Breaker:
    """Lets calls through until `FAILURES` in a row were not answered; then, every `retry_after`, a single one.

    An error that is an answer counts as one. A call that was cancelled says nothing of who was called.
    """

    def __init__(self, name: str, *, retry_after: timedelta) -> None:
        factory = SyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=retry_after.total_seconds())
        self._circuit = factory.get_breaker(name)
        self._finding_out = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call.

        Raises:
            LeftAlone: it is not to be made.
        """
        if self._finding_out:  # the library would let everybody wait who comes until the first is answered
            raise LeftAlone
        self._enter()
        finds_out = self._finding_out = self._circuit.context.state == HALF_OPENED
        try:
            yield
        except asyncio.CancelledError:
            raise
        except BackendUnavailableError as error:
            self._circuit.__exit__(type(error), error, error.__traceback__)
            raise
        except BaseException:
            self._circuit.__exit__(None, None, None)
            raise
        else:
            self._circuit.__exit__(None, None, None)
        finally:
            if finds_out:
                self._finding_out = False

    def _enter(self) -> None:
        try:
            self._circuit.__enter__()
        except OpenedState as opened:
            # It is raised again and again, and would keep the frames of everybody it was raised to.
            opened.with_traceback(None)
            # The library goes by the clock on the wall, which may be set back.
            opened.opened_at = min(opened.opened_at, time.time())
            raise LeftAlone from None

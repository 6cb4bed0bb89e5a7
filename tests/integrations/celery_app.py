"""The Celery app that the tests' workers and beat run: what a user would write."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from celery import Celery

from perdure.integrations.celery import open_store, register
from perdure.sync import SessionStore

app = Celery("jobs", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])


def open_or_die_once() -> SessionStore:
    """The store; but the first process that wants it, where `DIES_ONCE` names a file that is not there, is killed."""
    marker = os.environ.get("DIES_ONCE")
    if marker is not None and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return open_store()


tasks = register(app, open_store=open_or_die_once)

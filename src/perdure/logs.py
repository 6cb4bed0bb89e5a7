"""Where perdure's events go: to structlog where the application has configured it, else to the standard `logging`.

An event has a stable name and fields; never the values of state or parameters. Nothing is ever printed to stdout, which
may be a protocol's.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

__all__ = ["EventLog"]


class EventLog:
    """Writes the events of one part of perdure."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is not as it should be; the work goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something was not done."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if structlog.is_configured():
            structlog.get_logger(self._name).log(level, event, **fields)
            return
        text = " ".join([event, *(f"{name}={value!r}" for name, value in fields.items())])
        logging.getLogger(self._name).log(level, text, extra={"event": event, "fields": fields})

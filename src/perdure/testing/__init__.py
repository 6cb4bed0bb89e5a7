"""For whoever writes a backend, or tests code that uses a store: needs the extra `perdure[dev]`.

`BackendConformance` tests every promise of the contract; `FaultyBackend` breaks any backend on purpose; `ManualClock`
moves time; the builders make what backends take.
"""

from perdure.errors import MissingExtraError

try:
    import pytest as _pytest
    import pytest_asyncio as _pytest_asyncio  # noqa: F401 (asked for early, so that the error names the extra)
except ImportError as error:
    raise MissingExtraError("perdure.testing", extra="dev") from error
else:
    _pytest.register_assert_rewrite("perdure.testing.conformance")  # so that its assertions tell what they compared

from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.clock import ManualClock
from perdure.testing.conformance import BackendConformance, OpenBackend
from perdure.testing.faults import Fault, FaultyBackend, Moment

__all__ = [
    "START",
    "BackendConformance",
    "ChangeMaker",
    "Fault",
    "FaultyBackend",
    "ManualClock",
    "Moment",
    "OpenBackend",
    "stored_query",
    "stored_session",
]

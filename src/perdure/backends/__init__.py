"""Where sessions are kept: the contract in `protocol`, the backends, and `backend_for` to name one by URL."""

from perdure.backends.forwarding import ForwardingBackend, ObservedBackend
from perdure.backends.memory import MemoryBackend, MemoryData
from perdure.backends.protocol import (
    DUE_COUNTED,
    Absorbed,
    Archived,
    ArchiveOutcome,
    BackendHealth,
    Claimed,
    Copy,
    Deliver,
    HistoryPage,
    Purged,
    SchemaAdmin,
    SessionBackend,
    SessionCache,
    Tombstone,
)
from perdure.backends.registry import BackendFactory, backend_for, default_path

__all__ = [
    "DUE_COUNTED",
    "Absorbed",
    "ArchiveOutcome",
    "Archived",
    "BackendFactory",
    "BackendHealth",
    "Claimed",
    "Copy",
    "Deliver",
    "ForwardingBackend",
    "HistoryPage",
    "MemoryBackend",
    "MemoryData",
    "ObservedBackend",
    "Purged",
    "SchemaAdmin",
    "SessionBackend",
    "SessionCache",
    "Tombstone",
    "backend_for",
    "default_path",
]

"""Where sessions are kept: the contract in `protocol`, the backends, and `backend_for` to name one by URL."""

from perdure.backends.memory import MemoryBackend, MemoryData
from perdure.backends.protocol import (
    Absorbed,
    BackendHealth,
    Claimed,
    HistoryPage,
    Purged,
    SchemaAdmin,
    SessionBackend,
)
from perdure.backends.registry import BackendFactory, backend_for, default_path

__all__ = [
    "Absorbed",
    "BackendFactory",
    "BackendHealth",
    "Claimed",
    "HistoryPage",
    "MemoryBackend",
    "MemoryData",
    "Purged",
    "SchemaAdmin",
    "SessionBackend",
    "backend_for",
    "default_path",
]

"""The opaque cursor of a listing: the sort key of the last row of a page."""

from __future__ import annotations

import base64
import binascii
import struct
from datetime import datetime
from uuid import UUID

from perdure.errors import InvalidCursorError
from perdure.models.times import from_micros, to_micros

__all__ = ["SortKey", "read_cursor", "write_cursor"]

SortKey = tuple[datetime, UUID]
_FORMAT = struct.Struct(">Bq16s")
_VERSION = 1


def write_cursor(key: SortKey) -> str:
    """The cursor after which a listing goes on."""
    packed = _FORMAT.pack(_VERSION, to_micros(key[0]), key[1].bytes)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_cursor(cursor: str | None) -> SortKey | None:
    """The sort key in a cursor.

    Raises:
        InvalidCursorError: `write_cursor` did not write it.
    """
    if cursor is None:
        return None
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, micros, raw = _FORMAT.unpack(packed)
        if version != _VERSION:
            raise ValueError("a cursor of another version")
        return from_micros(micros), UUID(bytes=raw)
    except (binascii.Error, struct.error, ValueError, TypeError, OverflowError):
        raise InvalidCursorError(cursor) from None

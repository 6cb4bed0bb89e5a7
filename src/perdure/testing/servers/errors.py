"""What goes wrong with a server of one's own."""

from perdure.errors import PerdureError

__all__ = ["ServerError"]


class ServerError(PerdureError):
    """A server that did not start, or that was asked for what it cannot do now; the message says which, and its log."""

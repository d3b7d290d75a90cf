"""What is said while one waits for a server that does not answer, or cannot do it just then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_SECONDS = 10.0
"""Between two sentences, at least: of many requests at the same time, one speaks for all."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a connection and for each answer, and how often a request is tried in all."""

    connect: float = 10
    read: float = 60
    attempts: int = 4
    first: float = 15
    """Seconds to wait for the very first answer, as long as there was none: it is about a few bytes."""


class Seldom:
    """Hands on a sentence now and then, from whichever of many threads; what comes in between is dropped."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._said_at = float("-inf")

    def hand_on(self, sentence: str) -> None:
        """Hand a sentence on, unless there was one not long ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._said_at < _SECONDS:
                return
            self._said_at = now
        self._say(sentence)


def unsent(error: Exception) -> ValueError | None:
    """Return why a request could not even be put together, in words that may hold secrets; None where it was sent."""
    cause = getattr(error, "kwargs", {}).get("error")
    return cause if isinstance(cause, ValueError) else None


def why(error: Exception, silence: float, connect: float) -> str | None:
    """Return how a request ended without an answer, after so many seconds; None for what asking again does not help."""
    from botocore import exceptions as botocore

    if unsent(error) is not None:
        return None
    for kind, words in (
        (botocore.SSLError, None),
        (botocore.ReadTimeoutError, f"no answer within {silence:g} seconds"),
        (botocore.ConnectTimeoutError, f"no connection within {connect:g} seconds"),
        (botocore.EndpointConnectionError, "nobody answers"),
        (botocore.ProxyConnectionError, "the proxy does not answer"),
        ((botocore.HTTPClientError, botocore.IncompleteReadError), "the connection broke"),
    ):
        if isinstance(error, kind):
            return words
    return None

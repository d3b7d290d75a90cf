"""A file over HTTP, with an end in bytes and in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import requests
import urllib3

from pakman import addresses

_SILENCE = 15
"""Seconds without an answer after which a server counts as unreachable, as when packages are added."""


class UnreachableError(Exception):
    """A file could not be had; the text says which and why, without a password that its address may have."""


def download(
    session: requests.Session, url: str, file: IO[bytes], *, most: int, seconds: float, clock: Callable[[], float]
) -> None:
    """Write what is at an address, of at most `most` bytes, to a file, within `seconds`. Raises UnreachableError."""
    shown = addresses.without_password(url)
    try:
        _download(session, url, file, most, seconds, clock)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise UnreachableError(f"{shown} cannot be reached ({_reason(error)})") from error


def _download(
    session: requests.Session, url: str, file: IO[bytes], most: int, seconds: float, clock: Callable[[], float]
) -> None:
    shown, end = addresses.without_password(url), clock() + seconds
    # Some servers call .tar.gz gzip-encoded: what counts is the file as it is.
    headers = {"Accept-Encoding": "identity"}
    with session.get(url, headers=headers, stream=True, timeout=(_SILENCE, _SILENCE)) as answer:
        if answer.status_code != 200:
            raise UnreachableError(f"{shown} cannot be reached (the server answers {answer.status_code})")
        size = 0
        # Not iter_content: that waits until a piece is whole, however slowly it drips.
        while piece := answer.raw.read1(1 << 16, decode_content=False):
            size += len(piece)
            if size > most:
                raise UnreachableError(f"{shown} is larger than {_size(most)}, which is the most that it may have")
            if clock() > end:
                raise UnreachableError(f"{shown} does not come to an end within {seconds:g} seconds")
            file.write(piece)


def _size(number: int) -> str:
    return f"{number} bytes" if number % (1 << 20) else f"{number >> 20} MiB"


def _reason(error: Exception) -> str:
    """Say in a few words what requests says in three nested exceptions."""
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return f"no answer within {_SILENCE} seconds"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not one that this machine trusts"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.TooManyRedirects):
        return "it leads from one address to the next"
    return "the answer breaks off" if isinstance(error, urllib3.exceptions.ProtocolError) else type(error).__name__

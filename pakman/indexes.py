"""The indexes of a stack's repositories, downloaded and read: what `apk update` does, without apk.

Nobody's signature is checked: Alpine's keys are not here, and nothing is installed from it. What a lie could do is to
have a dependency called right or wrong; against that there is HTTPS, which all of pakman's own mirrors speak.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import requests
import urllib3

from pakman.apk.index import read_index
from pakman.errors import UsageError
from pakman.validation import packages
from pakman.validation.packages import Offers, Versions

_SILENCE = 15
"""Seconds without an answer after which a mirror counts as unreachable, as when packages are added."""
_PATIENCE = 60
"""Seconds for the whole of one index."""
_MOST = 16 << 20
"""Bytes of one index; Alpine's largest has 2.5 MB."""


class _UnreachableError(Exception):
    """An index could not be had; the text says which and why."""


def offers(
    repositories: Sequence[tuple[str, ...]],
    architectures: Sequence[str],
    *,
    clock: Callable[[], float],
    on_warning: Callable[[str], None],
) -> Offers:
    """Return what the first of several sets of repositories has that can be reached, all of its lines.

    `repositories` as in Stack, without those that only a build root knows. Each set that cannot be reached is a
    warning. Raises UsageError naming what was tried where none can.
    """
    asked = [lines for lines in repositories if lines]
    failures: list[str] = []
    with requests.Session() as session:
        for lines in asked:
            try:
                return {arch: _by_tag(session, lines, arch, clock) for arch in architectures}
            except _UnreachableError as error:
                failures.append(str(error))
                if len(failures) < len(asked):
                    on_warning(f"{error}: the next in order is asked")
    raise UsageError(
        f"the dependencies cannot be looked up: none of the repositories serve: {'; '.join(failures)}",
        hint="check the network, name a mirror that can be reached (--mirror, apk-mirrors in .pakman.toml), or leave "
        "--online out",
    )


def _by_tag(
    session: requests.Session, lines: Sequence[str], arch: str, clock: Callable[[], float]
) -> dict[str, Versions]:
    found: dict[str, Versions] = {}
    for line in lines:
        tag, _, url = line.rpartition(" ")
        versions = found.setdefault(tag.strip().removeprefix("@"), {})
        _add(versions, session, f"{url.rstrip('/')}/{arch}/APKINDEX.tar.gz", clock)
    return found


def _add(versions: Versions, session: requests.Session, url: str, clock: Callable[[], float]) -> None:
    with tempfile.TemporaryDirectory(prefix="pakman-index.") as directory:
        path = Path(directory) / "APKINDEX.tar.gz"
        try:
            with path.open("wb") as file:
                _download(session, url, file, clock)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _UnreachableError(f"{url} cannot be reached ({_reason(error)})") from error
        try:
            packages.add(versions, read_index(path).stanzas)
        except UsageError as error:
            raise _UnreachableError(f"{url}{error.message.removeprefix(str(path))}") from error


def _download(session: requests.Session, url: str, file: IO[bytes], clock: Callable[[], float]) -> None:
    end = clock() + _PATIENCE
    # Some servers call .tar.gz gzip-encoded: what counts is the file as it is.
    headers = {"Accept-Encoding": "identity"}
    with session.get(url, headers=headers, stream=True, timeout=(_SILENCE, _SILENCE)) as answer:
        if answer.status_code != 200:
            raise _UnreachableError(f"{url} cannot be reached (the server answers {answer.status_code})")
        size = 0
        # Not iter_content: that waits until a piece is whole, however slowly it drips.
        while piece := answer.raw.read1(1 << 16, decode_content=False):
            size += len(piece)
            if size > _MOST:
                raise _UnreachableError(f"{url} is larger than {_MOST >> 20} MiB, which no index is")
            if clock() > end:
                raise _UnreachableError(f"{url} does not come to an end within {_PATIENCE} seconds")
            file.write(piece)


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

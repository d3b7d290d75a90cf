"""The indexes of a stack's repositories, downloaded and read: what `apk update` does, without apk.

Nobody's signature is checked: Alpine's keys are not here, and nothing is installed from it. What a lie could do is to
have a dependency called right or wrong; against that there is HTTPS, which all of pakman's own mirrors speak.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from pakman import addresses
from pakman.apk.index import MAX_FILE, read_index
from pakman.download import UnreachableError, download
from pakman.errors import UsageError
from pakman.validation import packages
from pakman.validation.packages import Offers, Versions

_PATIENCE = 60
"""Seconds for the whole of one index."""


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
            except UnreachableError as error:
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
                download(session, url, file, most=MAX_FILE, seconds=_PATIENCE, clock=clock)
            packages.add(versions, read_index(path).stanzas)
        except UsageError as error:
            raise UnreachableError(
                f"{addresses.without_password(url)}{error.message.removeprefix(str(path))}"
            ) from error

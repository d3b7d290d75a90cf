"""install.sh: the script beside a channel that brings its package to a machine, and upgrades it there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pakman import templating
from pakman.errors import UsageError

_URL = re.compile(r"https?://[A-Za-z0-9._~:/\[\]@!$&'()*+,;=%-]+")
"""RFC 3986 without query and fragment. A blank would make several repositories of a line of apk's, and braces a
variable (apk-tools' src/repoparser.c)."""
_REPOSITORY_LINE = re.compile(rb"^\trepository=(.*)$", re.MULTILINE)
_PACKAGE_LINE = re.compile(rb"^\tpackage=(.*)$", re.MULTILINE)
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PublicKeyAt:
    """A public key that a machine is to trust."""

    name: str
    """Its file name in /etc/apk/keys."""
    url: str
    """Where a machine fetches it."""
    sha256: str
    """Of the file, in hex: what keeps another one from being trusted."""


def render(*, package: str, keys: Sequence[PublicKeyAt], repository_url: str) -> bytes:
    """Return a POSIX shell script that installs, or upgrades, a package from the repository at this address.

    Raises UsageError for a value that cannot be what it is called, whichever door it came in by.
    """
    values = [("package", package, _PACKAGE), ("repository", repository_url, _URL)]
    for key in keys:
        values += [("key's name", key.name, _FILE), ("key", key.url, _URL), ("key's SHA-256", key.sha256, _SHA256)]
    for what, value, grammar in values:
        if not grammar.fullmatch(value):
            raise UsageError(
                f"install.sh cannot be written: the {what} is {value[:200]!r}",
                hint="give --endpoint-url or --public-url as a machine can write it: %20 for a blank, for instance"
                if grammar is _URL
                else "",
            )
    return templating.render("install.sh.j2", package=package, keys=keys, repository_url=repository_url).encode()


def package(script: bytes) -> str | None:
    """Return the package that a script installs which `render` has made; None where there is none."""
    return _assigned(script, _PACKAGE_LINE, _PACKAGE)


def repository_url(script: bytes) -> str | None:
    """Return the address of the repository in a script that `render` has made; None where there is none."""
    return _assigned(script, _REPOSITORY_LINE, _URL)


def _assigned(script: bytes, line: re.Pattern[bytes], grammar: re.Pattern[str]) -> str | None:
    found = line.search(script)
    try:
        (value,) = shlex.split(found[1].decode()) if found is not None else ("",)
    except ValueError:  # not of our making
        return None
    return value if grammar.fullmatch(value) else None

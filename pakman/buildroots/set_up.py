"""What every build root needs before a build: room for temporary files, the build user, its own name for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pakman import command
from pakman.buildroots import BUILD_USER
from pakman.errors import BuildError

_BUILD_UID = 59_979
"""The unprivileged user's number, unless the root has one for it. The first that is free, 1000, is a person's on many
machines, and what a build may do to processes (kill them, read their memory) and sockets goes by the number."""

SCRIPT = f"""
set -e
umask 022
mkdir -p /tmp /var/tmp
chmod 1777 /tmp /var/tmp
id -u {BUILD_USER} >/dev/null 2>&1 || adduser -D -s /bin/sh -u {_BUILD_UID} {BUILD_USER} >&2
cat /etc/alpine-release
apk --print-arch
id -u {BUILD_USER}
id -g {BUILD_USER}
command -v abuild || echo -
"""
"""Run as root in the root's shell; ends with the five lines that `read` takes."""


_NUMBER = re.compile(r"[0-9]{1,9}")
_FORMS = (
    re.compile(r"[0-9][0-9a-z._]{0,63}"),
    re.compile(r"[a-z0-9][a-z0-9_]{0,31}"),
    _NUMBER,
    _NUMBER,
    re.compile(r"-|/.*"),
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a root that is set up says of itself."""

    release: str
    arch: str
    uid: int
    gid: int
    has_abuild: bool


def read(said: Sequence[str], status: int, *, hint: str) -> Readiness:
    """Return what SCRIPT wrote; raise BuildError where it failed, or says what no root can."""
    if status != 0 or len(said) < len(_FORMS):
        reason = "".join(said[-1:]) or command.how_it_ended(status)
        raise BuildError(f"the Alpine root does not work: {reason}", hint=hint)
    # The root is whoever made its image: these words name files out here.
    if not all(form.fullmatch(line) for form, line in zip(_FORMS, said[-5:], strict=True)):
        raise BuildError(
            f"the Alpine root says that its release, architecture, the build user's numbers and the place of abuild "
            f"are {said[-5:]}, and some of that cannot be",
            hint=hint,
        )
    release, arch, uid, gid, abuild = said[-5:]
    return Readiness(release, arch, int(uid), int(gid), abuild != "-")

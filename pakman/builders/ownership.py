"""The owners in a package that the build user laid out, because root of the build root is root of the whole machine.

All that is in its tree belongs to the build user, then: what package() would have given to others, embedded.sh only
says, and it is given here, when no process of the build is left to change what a path leads to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pakman.apk import tar
from pakman.apk.tree import Entry, Tree
from pakman.builders.driver import PKGBASEDIR
from pakman.errors import BuildError

_SAID = re.compile(rf"chown -R -h ([^\s:]+):([^\s:]+) {PKGBASEDIR}/([^\s/]+)/(\S+)")


@dataclass(frozen=True, slots=True)
class Gift:
    """A path in a package, with all below it, that belongs to somebody."""

    user: str
    group: str
    package: str
    path: bytes


def said(line: str) -> Gift | None:
    """Return what a line of package()'s says to be given; None: it says something else."""
    match = _SAID.fullmatch(line)
    return Gift(match[1], match[2], match[3], os.fsencode(match[4])) if match else None


def give(
    tree: Path,
    package: str,
    gifts: Sequence[Gift],
    build_user_id: int,
    users: Mapping[int, str],
    groups: Mapping[int, str],
) -> list[Entry]:
    """Give what is in a package's tree to whom it belongs; return what is in it.

    `users` and `groups` are names by number. Raises BuildError for a file that is not the build user's: it is another's
    by a hard link, and may be one that the build cannot read.
    """
    user_ids, group_ids = _by_name(users), _by_name(groups)
    with Tree(tree) as files:
        entries = files.entries()
        for entry in entries:
            if entry.uid != build_user_id:
                raise BuildError(
                    f"{tar.shown(entry.path)} is not the build's own file, but a hard link to another user's",
                    hint="copy the file",
                )
        for gift in gifts:
            for entry in entries if gift.package == package else []:
                if entry.path == gift.path or entry.path.startswith(gift.path + b"/"):
                    files.give(entry, user_ids[gift.user], group_ids[gift.group])
        return files.entries()


def _by_name(names: Mapping[int, str]) -> dict[str, int]:
    return {name: number for number, name in names.items()}

"""Packages leave an index; their objects stay until `pakman.channels.pruning` may delete them.

Whoever takes them out buries them, and sees to the copies of the newest last of all: one that is newer than the index
tells that a removal was killed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container

from pakman.apk.index import Stanza
from pakman.channels import Channel, tombstones
from pakman.channels.adding import refresh_latest
from pakman.channels.contents import LATEST, no_listing
from pakman.channels.versions import names

Chosen = Callable[[tuple[Stanza, ...]], Collection[Stanza]]
"""Says which of an index's entries go."""
_COPY = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*)\.apk")
"""What else somebody has put there is none of ours."""


def remove(channel: Channel, arch: str, chosen: Chosen, buried: Container[str]) -> tuple[set[str], set[str]]:
    """Take entries out of an index; return what it names then, and what it has named, both `<arch>/<file>`.

    `buried` are the tombstones that there are; whoever calls this buries what went, and refreshes the copies.
    """
    taken: set[str] = set()

    def change(stanzas: tuple[Stanza, ...]) -> list[Stanza]:
        going = set(chosen(stanzas))
        # Of all attempts: one whose answer was lost has taken them out, and the next finds nothing to do.
        taken.update(names(arch, going))
        for name in taken:
            if name in buried:
                # It tells the time of an earlier removal, and the file has been added since.
                tombstones.remove(channel, name)
        return [each for each in stanzas if each not in going]

    if channel.index(arch) is None:
        return set(), set()
    left = names(arch, channel.edit(arch, change).stanzas)
    return left, taken - left


def refresh_copies(channel: Channel, arch: str) -> None:
    """Let the copies of the newest follow the index; those of packages that it does not name any more go."""
    refresh_latest(channel, arch, copied(channel, arch), and_named=True)


def copied(channel: Channel, arch: str) -> set[str]:
    """Return the names of the packages that have a copy; raises BucketError where the credentials may not list."""
    folder = f"{channel.key(LATEST, arch)}/"
    stored = channel.bucket.list(folder)
    if stored is None:
        raise no_listing(channel.bucket)
    return {match[1] for key in stored if (match := _COPY.fullmatch(key.removeprefix(folder))) is not None}

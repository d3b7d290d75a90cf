"""Packages leave an index; their objects stay until `pakman.channels.pruning` may delete them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container

from pakman.apk.index import Stanza
from pakman.channels import Channel, tombstones
from pakman.channels.adding import refresh_latest
from pakman.channels.versions import names

Chosen = Callable[[tuple[Stanza, ...]], Collection[Stanza]]
"""Says which of an index's entries go."""


def remove(channel: Channel, arch: str, chosen: Chosen, buried: Container[str]) -> tuple[set[str], set[str]]:
    """Take entries out of an index, and see to `latest`; return what it names then, and what it has named.

    Both are `<arch>/<file>`. `buried` are the tombstones that there are; whoever calls this buries what went.
    """
    gone: set[str] = set()

    def change(stanzas: tuple[Stanza, ...]) -> list[Stanza]:
        nonlocal gone
        going = set(chosen(stanzas))
        gone = names(arch, going)
        for name in gone:
            if name in buried:
                # It tells the time of an earlier removal, and the file has been added since.
                tombstones.remove(channel, name)
        return [each for each in stanzas if each not in going]

    live = channel.index(arch)
    if live is None:
        return set(), set()
    left = channel.edit(arch, change).stanzas
    if gone:
        refresh_latest(channel, arch, {each.name for each in live.stanzas if names(arch, [each]) <= gone})
    return names(arch, left), gone

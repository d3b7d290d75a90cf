"""Packages leave an index; their objects stay until `pakman.channels.pruning` may delete them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container

from pakman.apk.index import Stanza
from pakman.channels import Channel, file_name, tombstones
from pakman.channels.adding import refresh_latest
from pakman.channels.versions import names

Chosen = Callable[[tuple[Stanza, ...]], Collection[Stanza]]
"""Says which of an index's entries go."""


def remove(channel: Channel, arch: str, chosen: Chosen, buried: Container[str]) -> tuple[set[str], set[str]]:
    """Take entries out of an index, and see to `latest`; return what it names then, and what it has named.

    Both are `<arch>/<file>`. `buried` are the tombstones that there are; whoever calls this buries what went.
    """
    taken: dict[str, str] = {}

    def change(stanzas: tuple[Stanza, ...]) -> list[Stanza]:
        going = set(chosen(stanzas))
        # Of all attempts: one whose answer was lost has taken them out, and the next finds nothing to do.
        taken.update({f"{arch}/{file_name(each)}": each.name for each in going})
        for name in taken:
            if name in buried:
                # It tells the time of an earlier removal, and the file has been added since.
                tombstones.remove(channel, name)
        return [each for each in stanzas if each not in going]

    if channel.index(arch) is None:
        return set(), set()
    left = names(arch, channel.edit(arch, change).stanzas)
    gone = taken.keys() - left
    if gone:
        refresh_latest(channel, arch, {taken[each] for each in gone})
    return left, gone

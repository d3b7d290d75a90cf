"""The versions in a channel: of which application, in which order, and which one a command line means."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence

from pakman import version
from pakman.apk.index import Stanza
from pakman.channels import Channel, file_name
from pakman.errors import BucketError, UsageError

Indexes = Mapping[str, tuple[Stanza, ...]]
"""The entries of a channel's indexes by architecture."""
_SHOWN = 10


def indexes(channel: Channel) -> dict[str, tuple[Stanza, ...]]:
    """Return what the indexes of a channel name. Raises BucketError as `Channel.index` does."""
    found = {arch: channel.index(arch) for arch in channel.architectures()}
    return {arch: live.stanzas for arch, live in found.items() if live is not None}


def application(stanza: Stanza) -> str:
    """Return what a package is a part of, by the name of its main package: shop-openrc is one of shop."""
    return stanza.field("o") or stanza.name


def names(arch: str, stanzas: Iterable[Stanza]) -> set[str]:
    """Return `<arch>/<file>` of each."""
    return {f"{arch}/{file_name(each)}" for each in stanzas}


def by_application(stanzas: Iterable[Stanza]) -> dict[str, list[str]]:
    """Return the versions of each application, oldest first."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in stanzas:
        found[application(each)].add(each.version)
    return {name: sorted(found[name], key=version.sort_key) for name in sorted(found)}


def refuse_no_version(flag: str, text: str) -> str:
    """Return what a flag says; raise UsageError where it cannot be a version."""
    if not version.is_valid(text):
        # A release is written 1.2.3-4 elsewhere.
        with_release = re.sub(r"-([0-9]+)$", r"-r\1", text[:60])
        near = with_release if version.is_valid(with_release) else version.nearest(text[:60])
        raise UsageError(
            f"{flag} is {text[:80]!r}, which cannot be a version",
            hint=f"is it {near}?" if near else "write it as 1.2.3-r4, or as 1.2.3 for the newest release of that",
        )
    return text


def newest(stanzas: Iterable[Stanza], names: Container[str] | None = None) -> dict[str, Stanza]:
    """Return the newest entry of each package, by its name; of these packages alone where there are `names`."""
    found: defaultdict[str, list[Stanza]] = defaultdict(list)
    for each in stanzas:
        name = each.name
        if names is None or name in names:
            found[name].append(each)
    return {name: max(all_, key=lambda each: version.sort_key(each.version)) for name, all_ in found.items()}


def meant(versions: Iterable[str], wanted: str) -> str | None:
    """Return the newest version that `wanted` names, with its release or without; None where there is none."""
    found = [each for each in versions if wanted in (each, each.rpartition("-r")[0])]
    return max(found, key=version.sort_key, default=None)


def some(things: Sequence[str], between: str = ", ") -> str:
    """Return as many of them as a sentence can hold, and how many more there are."""
    more = len(things) - _SHOWN
    return between.join([*things[:_SHOWN], *([f"{more} more"] if more > 0 else [])])


def unknown(channel: Channel, found: Indexes, wanted: str) -> BucketError:
    """Return the error for a version that a channel has not got."""
    there = by_application(each for stanzas in found.values() for each in stanzas)
    shown = [f"{name} {', '.join(reversed(versions[-_SHOWN:]))}" for name, versions in there.items()]
    return BucketError(
        f"channel {channel.name} has no version {wanted}",
        hint=f"it has {some(shown, '; ')}" if shown else "it has none at all: push into it first",
    )

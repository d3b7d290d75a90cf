"""A channel goes back: what is newer than a version leaves its indexes, and machines can be told to follow."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pakman import version
from pakman.apk.index import Stanza
from pakman.channels import Channel, tombstones
from pakman.channels.contents import LATEST
from pakman.channels.removing import copied, refresh_copies, remove
from pakman.channels.versions import Indexes, application, by_application, indexes, meant, some, unknown
from pakman.errors import BucketError, PakmanError

Targets = Mapping[str, str]
"""The version that each application goes back to."""
Versions = Mapping[str, Sequence[str]]
"""The versions of each application, oldest first."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What each application is back at, and the packages that left the indexes, `<arch>/<file>`, sorted."""

    versions: Targets
    removed: tuple[str, ...]
    finished: bool = False
    """An earlier rollback was killed behind the indexes; this one has done the rest of it, and goes back no further."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self)


def roll_back(channel: Channel, to: str | None, *, on_target: Callable[[Targets], None] = lambda _: None) -> RolledBack:
    """Take all that is newer than a version (None: the newest but one) out of every index, and see to `latest`.

    `on_target` is told what it goes back to, before anything changes, if anything will: with it as `to`, what was
    interrupted is finished by another run, which goes back no further. Without it that holds until the copies in
    `latest` have followed. Raises BucketError.
    """
    channel.bucket.refuse_without_conditions()
    # Before the indexes: a push that comes by has its copies behind them.
    copies = _copies(channel)
    found = indexes(channel)
    there = by_application(each for stanzas in found.values() for each in stanzas)
    unfinished = _unfinished(found, there, copies)
    targets = _before_the_newest(channel, there, unfinished) if to is None else _named(channel, found, there, to)
    for arch, stanzas in found.items():
        _refuse_to_empty(channel, arch, stanzas, targets)
    going = {arch: any(_goes(each, targets) for each in stanzas) for arch, stanzas in found.items()}
    if any(going.values()):
        on_target(targets)
        for arch in found:
            # A push may have been killed before it: then no copy would be newer than the indexes. What is to go may be
            # damaged, and then there is nothing to copy.
            with suppress(BucketError):
                refresh_copies(channel, arch)
    buried = tombstones.names(channel)
    removed: set[str] = set()
    for arch in found:
        _, gone = remove(channel, arch, lambda stanzas: [each for each in stanzas if _goes(each, targets)], buried)
        removed |= gone
        for name in sorted(gone):
            tombstones.bury(channel, name)
    # Those that nothing goes from, first: behind the last copy there is nothing left that could be interrupted.
    for arch in sorted(found, key=going.__getitem__):
        refresh_copies(channel, arch)
    return RolledBack(targets, tuple(sorted(removed)), finished=not removed and not unfinished.isdisjoint(targets))


def _copies(channel: Channel) -> dict[tuple[str, str], str]:
    """Return the version that each copy in `latest` says it has, by architecture and package."""
    return {
        (arch, name): (channel.bucket.notes(channel.key(LATEST, arch, f"{name}.apk")) or {}).get("version", "")
        for arch in channel.architectures()
        for name in copied(channel, arch)
    }


def _unfinished(found: Indexes, there: Versions, copies: Mapping[tuple[str, str], str]) -> set[str]:
    """Return the applications that a copy in `latest` is newer of than all indexes: a rollback was killed before it."""
    parts = {(arch, each.name): application(each) for arch, stanzas in found.items() for each in stanzas}
    return {
        parts[place]
        for place in parts.keys() & copies.keys()
        if version.is_valid(copies[place]) and version.compare(copies[place], there[parts[place]][-1]) > 0
    }


def _before_the_newest(channel: Channel, there: Versions, unfinished: Container[str]) -> Targets:
    if len(there) > 1:
        raise BucketError(
            f"channel {channel.name} has several applications: {some(list(there))}",
            hint="say which version to go back to: --to VERSION takes back each application that has it",
        )
    for name, versions in there.items():
        if name in unfinished:
            return {name: versions[-1]}
        if len(versions) > 1:
            return {name: versions[-2]}
        raise _nothing_older(channel, "", f"{name} {versions[0]}")
    raise BucketError(f"channel {channel.name} has no packages to go back to", hint="push into it first")


def _named(channel: Channel, found: Indexes, there: Versions, to: str) -> Targets:
    targets = {name: target for name, versions in there.items() if (target := meant(versions, to)) is not None}
    if not targets:
        raise unknown(channel, found, to)
    return targets


def _refuse_to_empty(channel: Channel, arch: str, stanzas: tuple[Stanza, ...], targets: Targets) -> None:
    for name, versions in by_application(stanzas).items():
        if name in targets and version.compare(versions[0], targets[name]) > 0:
            raise _nothing_older(channel, f" for {arch}", f"{name} {versions[0]}")


def _nothing_older(channel: Channel, where: str, oldest: str) -> PakmanError:
    return BucketError(
        f"channel {channel.name} has nothing older than {oldest}{where}: there is nothing to go back to",
        hint="push a version that is right: one that is newer than what machines have, so that they upgrade to it",
    )


def _goes(stanza: Stanza, targets: Targets) -> bool:
    target = targets.get(application(stanza))
    return target is not None and version.compare(stanza.version, target) > 0

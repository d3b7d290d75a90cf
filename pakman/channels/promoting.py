"""What one channel has joins another one: the same files and entries, nothing is built anew."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pakman.apk.index import Stanza
from pakman.bucket import content
from pakman.bucket.pool import Counter, OnProgress, workers
from pakman.channels import Channel, checking, file_name
from pakman.channels.adding import Addition, add, refresh_latest
from pakman.channels.contents import published_keys
from pakman.channels.versions import Indexes, application, by_application, indexes, meant, names, unknown
from pakman.errors import BucketError


@dataclass(frozen=True, slots=True)
class Promoted:
    """What became of a promotion: packages as `<arch>/<file>`, sorted."""

    versions: Mapping[str, tuple[str, ...]]
    """By application; several only where they were named without their release."""
    promoted: tuple[str, ...]
    already_there: tuple[str, ...]
    without: tuple[str, ...]
    """The architectures that have nothing of this version."""
    signed_anew: tuple[str, ...] = ()
    """Those whose index in the other channel other keys had signed: now it is those that were given."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self)


def promote(
    source: Channel,
    target: Channel,
    named: str | None,
    *,
    on_progress: OnProgress = lambda *_: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Promoted:
    """Let a version (None: the newest) of all architectures, with all its packages, join another channel.

    Each package is what its index says, or nothing is changed. Run again, it finishes what was interrupted, and where
    all is there it changes nothing but who has signed the other channel's indexes. Raises BucketError.
    """
    found, there = indexes(source), indexes(target)
    chosen = _newest(source, found) if named is None else _named(source, found, named)
    missing = {arch: [each for each in chosen[arch] if not _holds(there.get(arch, ()), each)] for arch in chosen}
    versions = by_application(each for stanzas in chosen.values() for each in stanzas)
    with checking.folder() as folder, closing(source.bucket):
        # install.sh brings the keys that are given: those sign all that there is.
        wanted = {arch: list[Stanza]() for arch in there} | {arch: new for arch, new in missing.items() if new}
        additions = _fetched(source, wanted, folder, on_progress)
        add(target, additions, next(iter(versions)), on_progress=on_progress, on_notice=on_notice)
    for arch, stanzas in chosen.items():
        if old := {each.name for each in stanzas if each not in missing[arch]}:
            # One that was interrupted may have got as far as the index.
            refresh_latest(target, arch, old)
    promoted = {name for arch, stanzas in missing.items() for name in names(arch, stanzas)}
    everything = {name for arch, stanzas in chosen.items() for name in names(arch, stanzas)}
    return Promoted(
        versions={name: tuple(all_) for name, all_ in versions.items()},
        promoted=tuple(sorted(promoted)),
        already_there=tuple(sorted(everything - promoted)),
        without=tuple(arch for arch in found if not chosen[arch]),
        signed_anew=tuple(sorted(target.signed_anew)),
    )


def _holds(stanzas: tuple[Stanza, ...], wanted: Stanza) -> bool:
    return any(
        (each.name, each.version, each.checksum) == (wanted.name, wanted.version, wanted.checksum) for each in stanzas
    )


def _chosen(found: Indexes, choose: Callable[[list[str]], str | None]) -> dict[str, list[Stanza]]:
    """Return each architecture's packages of the version that `choose` takes of an application's."""
    result = {}
    for arch, stanzas in found.items():
        taken = {name: choose(versions) for name, versions in by_application(stanzas).items()}
        result[arch] = [each for each in stanzas if each.version == taken[application(each)]]
    return result


def _newest(source: Channel, found: Indexes) -> dict[str, list[Stanza]]:
    chosen = _chosen(found, lambda versions: versions[-1])
    by_name: dict[str, dict[str, str]] = {}
    for arch, stanzas in chosen.items():
        for each in stanzas:
            by_name.setdefault(application(each), {})[arch] = each.version
    if not by_name:
        raise BucketError(f"channel {source.name} has no packages to promote", hint="push into it first")
    for name, versions in by_name.items():
        if len(set(versions.values())) > 1:
            newest = ", ".join(f"{version} for {arch}" for arch, version in versions.items())
            raise BucketError(
                f"the newest version of {name} in channel {source.name} is not the same everywhere: {newest}",
                hint="push what is missing, or say which version to promote: --package-version VERSION",
            )
    return chosen


def _named(source: Channel, found: Indexes, wanted: str) -> dict[str, list[Stanza]]:
    chosen = _chosen(found, lambda versions: meant(versions, wanted))
    if not any(chosen.values()):
        raise unknown(source, found, wanted)
    return chosen


def _fetched(
    source: Channel, wanted: Mapping[str, list[Stanza]], folder: Path, on_progress: OnProgress
) -> dict[str, list[Addition]]:
    """Download packages and compare them with what the index says."""
    counter = Counter(sum(int(each.field("S")) for all_ in wanted.values() for each in all_), on_progress)

    # Before a rotation it was another key.
    trusted = (*source.trusted, *published_keys(source.bucket))

    def fetch(arch: str, stanza: Stanza) -> Addition:
        # Not by its own name, which may be longer than a file's.
        key, path = source.key(arch, file_name(stanza)), folder / uuid.uuid4().hex
        on_bytes = partial(counter.add, f"{source.name}: {file_name(stanza)}")
        checking.fetch(source.bucket, key, path, int(stanza.field("S")), on_bytes)
        wrong = checking.problems(path, stanza, trusted)
        if wrong:
            raise BucketError(
                f"{key} in {source.bucket.location} {wrong[0]}: nothing was promoted",
                hint="`pakman repository verify` says what else is wrong",
            )
        return Addition(stanza, path, content.read(path).sha256)

    with workers(checking.AT_ONCE) as (threads, _):
        return {arch: list(threads.map(partial(fetch, arch), all_)) for arch, all_ in wanted.items()}

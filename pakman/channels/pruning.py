"""Old versions leave a channel: first its indexes, and the bucket once no machine goes by an index that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pakman.apk.index import Stanza
from pakman.bucket import Stored
from pakman.bucket.pool import workers
from pakman.channels import Channel, file_name, tombstones
from pakman.channels.adding import edit_sums
from pakman.channels.contents import contents
from pakman.channels.listing import iso
from pakman.channels.removing import Chosen, refresh_copies, remove
from pakman.channels.tombstones import Times
from pakman.channels.versions import application, by_application, names

_BATCH = 200
"""Objects that are claimed at once."""
_IN_TIME = 300
"""Seconds from the claim in which they are deleted: others may take a claim over that is three times as old, and a
request can take minutes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What stays in an index: an application's newest versions, and all that came not so long ago."""

    keep: int = 1
    """Versions of each application; the newest one always stays."""
    older_than: float = 0
    """Seconds since a package came into the channel."""

    def old(self, stanzas: Sequence[Stanza], age: Callable[[Stanza], float]) -> list[Stanza]:
        """Return which of an index's entries go; `age` in seconds."""
        kept = {name: set(versions[-self.keep :]) for name, versions in by_application(stanzas).items()}
        return [
            each for each in stanzas if each.version not in kept[application(each)] and age(each) >= self.older_than
        ]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A package, `<arch>/<file>`, that no index names; it stays until then (seconds since 1970, the server's clock)."""

    name: str
    until: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of packages, each `<arch>/<file>` and sorted; in a plan: what would become of them."""

    removed: tuple[str, ...]
    """Taken out of the index."""
    deleted: tuple[str, ...]
    waiting: tuple[Waiting, ...]
    signed_anew: tuple[str, ...] = ()
    """The architectures whose index other keys had signed: now it is those that were given."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self) | {"waiting": [{"name": each.name, "until": iso(each.until)} for each in self.waiting]}


def prune(
    channel: Channel,
    rule: Rule,
    *,
    clock: Callable[[], float],
    times: Times = Times(),  # noqa: B008  # frozen
    dry_run: bool = False,
) -> Pruned:
    """Take old versions out of the indexes, delete what no cached index names any more, and say what it was.

    What a push or a prune left behind that was killed goes the same way. `clock` counts seconds from anywhere. Raises
    BucketError.
    """
    bucket = channel.bucket
    if not dry_run:
        bucket.refuse_without_conditions()
    now, found = bucket.now(), contents(channel)
    removed: set[str] = set()
    named: set[str] = set()
    architectures = channel.architectures()
    for arch in architectures:
        chosen = partial(rule.old, age=partial(_age, arch, now, found.packages))
        left, gone = _named(channel, arch, chosen) if dry_run else remove(channel, arch, chosen, found.tombstones)
        removed |= gone
        named |= left
    buried = removed | (found.packages.keys() - named - found.tombstones.keys())
    since = {name: each.modified for name, each in found.tombstones.items() if name not in named | buried}
    with closing(bucket), workers(bucket.concurrency) as (threads, _):
        if dry_run:
            deleted = {name for name in since if now - since[name] > times.cached}
        else:
            _all(threads, partial(tombstones.bury, channel), buried)
            # A push came by that saw none, or that was killed behind its index.
            _all(threads, partial(tombstones.remove, channel), found.tombstones.keys() & named)
            deleted = _swept(channel, sorted(since), now, times, clock, threads)
            for arch in architectures:
                refresh_copies(channel, arch)
        since |= dict.fromkeys(buried, bucket.now())
    return Pruned(
        tuple(sorted(removed)),
        tuple(sorted(deleted)),
        tuple(Waiting(name, since[name] + times.cached) for name in sorted(since.keys() - deleted)),
        tuple(sorted(channel.signed_anew)),
    )


def _named(channel: Channel, arch: str, chosen: Chosen | None = None) -> tuple[set[str], set[str]]:
    """Return what an index names, without what is chosen, and what is chosen."""
    live = channel.index(arch)
    stanzas = () if live is None else live.stanzas
    gone = names(arch, chosen(stanzas) if chosen is not None else ())
    return names(arch, stanzas) - gone, gone


def _age(arch: str, now: float, packages: Mapping[str, Stored], stanza: Stanza) -> float:
    stored = packages.get(f"{arch}/{file_name(stanza)}")
    # What is not in the listing has come since.
    return 0 if stored is None else now - stored.modified


def _all(threads: Executor, do: Callable[[str], object], each: Iterable[str]) -> None:
    list(threads.map(do, sorted(each)))


def _swept(
    channel: Channel, due: Sequence[str], now: float, times: Times, clock: Callable[[], float], threads: Executor
) -> set[str]:
    """Delete the packages whose time is up, with their tombstones; return which."""
    deleted: set[str] = set()
    for start in range(0, len(due), _BATCH):
        began = clock()
        batch = due[start : start + _BATCH]
        ours = threads.map(lambda name: tombstones.claim(channel, name, now, times), batch)
        claimed = {name for name, is_ours in zip(batch, ours, strict=True) if is_ours}
        # The index is asked again: a push that saw no tombstone may have come by.
        named = {name for arch in {each.partition("/")[0] for each in claimed} for name in _named(channel, arch)[0]}
        deleted |= _deleted(channel, claimed - named, began + _IN_TIME, clock, threads)
        _all(threads, partial(tombstones.remove, channel), claimed & (deleted | named))
    return deleted


def _deleted(
    channel: Channel, doomed: set[str], until: float, clock: Callable[[], float], threads: Executor
) -> set[str]:
    """Delete packages, none later than the clock's `until`; return which."""

    def delete(name: str) -> bool:
        # What is left, the next prune deletes.
        if clock() > until:
            return False
        channel.bucket.delete([channel.key(*name.split("/"))])
        return True

    if not doomed:
        return set()
    # Not before: SHA256SUMS has a line for what is there.
    edit_sums(channel, lambda sums: {name: sha256 for name, sha256 in sums.items() if name not in doomed})
    ordered = sorted(doomed)
    return {name for name, is_gone in zip(ordered, threads.map(delete, ordered), strict=True) if is_gone}

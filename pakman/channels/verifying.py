"""Is a channel what it says it is: signatures, indexes, packages, SHA256SUMS, the copies of the newest versions?"""

from __future__ import annotations

import uuid
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pakman.apk.index import Stanza
from pakman.bucket import content
from pakman.bucket.pool import Counter, OnProgress, workers
from pakman.channels import Channel, Live, checking, file_name
from pakman.channels.adding import INSTALL_FILE, MOST_OF_SUMS, SUMS_FILE, read_sums
from pakman.channels.contents import LATEST, Contents, contents
from pakman.channels.versions import newest
from pakman.errors import BucketError
from pakman.repository import INDEX_FILE

_TRIES = 3


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong with an object: where it lies in the channel, and the rest of a sentence about it."""

    object: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at in a channel, and what is wrong with it."""

    channel: str
    packages: int
    """How many entries the indexes have."""
    size: int
    """Bytes of them that were read."""
    problems: tuple[Problem, ...]
    unnamed: tuple[str, ...]
    """Packages that no index names, `<arch>/<file>`; nothing is wrong with that."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self)


def verify(channel: Channel, *, on_progress: OnProgress = lambda *_: None) -> Verdict:
    """Read all that a channel has, and return everything that is wrong with it.

    Where something is, and indexes have changed meanwhile, it is read again: what a push is about to do is no problem.
    Raises BucketError where the bucket does not answer as it should.
    """
    for _ in range(_TRIES):
        lives, unreadable = _indexes(channel)
        verdict = _verdict(channel, lives, unreadable, on_progress)
        if not verdict.problems or all(_is_live(channel, arch, live) for arch, live in lives.items()):
            break
    return verdict


def _indexes(channel: Channel) -> tuple[dict[str, Live], list[Problem]]:
    lives, wrong = {}, []
    for arch in channel.architectures():
        try:
            live = channel.index(arch)
        except BucketError as error:
            where = f"{channel.key(arch, INDEX_FILE)} in {channel.bucket.location}"
            if not error.message.startswith(where):
                raise
            wrong.append(Problem(f"{arch}/{INDEX_FILE}", error.message.removeprefix(where).strip()))
            continue
        if live is not None:
            lives[arch] = live
    return lives, wrong


def _is_live(channel: Channel, arch: str, live: Live) -> bool:
    stored = channel.bucket.head(channel.key(arch, INDEX_FILE))
    return stored is not None and stored.etag == live.etag


def _verdict(
    channel: Channel, lives: Mapping[str, Live], unreadable: Sequence[Problem], on_progress: OnProgress
) -> Verdict:
    # After the indexes: what they name is there, and in the sums, before they name it.
    sums = _sums(channel)
    found = contents(channel)
    entries = [(f"{arch}/{file_name(each)}", each) for arch, live in lives.items() for each in live.stanzas]
    copies = _copies(lives)
    misfits = [_misfit(found, name, each) for name, each in entries]
    fits = [entry for entry, why in zip(entries, misfits, strict=True) if why is None]
    counter = Counter(
        sum(found.packages[name].size for name, _ in fits)
        + sum(found.latest[copy].size for copy in copies if copy in found.latest),
        on_progress,
    )
    with closing(channel.bucket), checking.folder() as folder, workers(checking.AT_ONCE) as (threads, _):
        read, wrong = _packages(fits, threads, partial(_read, channel, folder, counter))
        problems = [
            *unreadable,
            *(Problem(name, why) for (name, _), why in zip(entries, misfits, strict=True) if why is not None),
            *wrong,
            *_twice(entries),
            *_wrong_sums(channel, dict(entries), sums, found, read),
            *_wrong_copies(channel, copies, found, read, threads, counter),
            *_stray_copies(lives, copies, found),
        ]
        if entries and channel.bucket.head(channel.key(INSTALL_FILE)) is None:
            problems.append(Problem(INSTALL_FILE, "is not there"))
    unread = {each.object.partition("/")[0] for each in unreadable}
    unnamed = found.packages.keys() - dict(entries).keys()
    return Verdict(
        channel=channel.name,
        packages=len(entries),
        size=sum(found.packages[name].size for name in read),
        problems=tuple(sorted(problems)),
        unnamed=tuple(sorted(name for name in unnamed if name.partition("/")[0] not in unread)),
    )


def _sums(channel: Channel) -> dict[str, str]:
    return read_sums(channel.bucket.read(channel.key(SUMS_FILE), MOST_OF_SUMS))


def _copies(lives: Mapping[str, Live]) -> dict[str, str]:
    """Return the packages that the copies in `latest` should be of, both as `<arch>/<file>`."""
    return {
        f"{arch}/{name}.apk": f"{arch}/{file_name(stanza)}"
        for arch, live in lives.items()
        for name, stanza in newest(live.stanzas).items()
    }


def _misfit(found: Contents, name: str, stanza: Stanza) -> str | None:
    """Return what is wrong with a package that a listing tells; None where nothing is."""
    if name not in found.packages:
        return "is named by the index, but is not in the bucket"
    if found.packages[name].size != int(stanza.field("S")):
        return f"has {found.packages[name].size} bytes, but the index says {stanza.field('S')}"
    return None


def _packages(
    entries: Sequence[tuple[str, Stanza]], threads: Executor, read: Callable[[str, Stanza], tuple[str, list[str]]]
) -> tuple[dict[str, str], list[Problem]]:
    """Read each package; return the SHA-256 of those that were read, in hex, and what is wrong."""
    digests: dict[str, str] = {}
    wrong: list[Problem] = []
    for (name, _), (sha256, problems) in zip(entries, threads.map(lambda entry: read(*entry), entries), strict=True):
        digests |= {name: sha256} if sha256 else {}
        wrong += [Problem(name, each) for each in problems]
    return digests, wrong


def _read(channel: Channel, folder: Path, counter: Counter, name: str, stanza: Stanza) -> tuple[str, list[str]]:
    """Download a package, and return its SHA-256 and what is wrong with it."""
    key, size = channel.key(*name.split("/")), int(stanza.field("S"))
    # Not by its own name: a damaged index may have it twice.
    path = folder / uuid.uuid4().hex
    try:
        checking.fetch(channel.bucket, key, path, size, partial(counter.add, f"{channel.name}: {name}"))
        return content.read(path).sha256, checking.problems(path, stanza, channel.trusted)
    except BucketError:
        if channel.bucket.head(key) is not None:
            raise
        return "", ["has gone from the bucket, but the index names it"]
    finally:
        path.unlink(missing_ok=True)


def _twice(entries: Sequence[tuple[str, Stanza]]) -> Iterator[Problem]:
    for name, count in Tally(name for name, _ in entries).items():
        if count > 1:
            yield Problem(name, f"is in the index {count} times")


def _wrong_sums(
    channel: Channel, entries: Mapping[str, Stanza], sums: Mapping[str, str], found: Contents, read: Mapping[str, str]
) -> Iterator[Problem]:
    if entries and not sums:
        yield Problem(SUMS_FILE, "is not there, or has no line of a SHA-256 and a package")
        return
    for name in entries:
        if name not in sums:
            yield Problem(SUMS_FILE, f"has no line for {name}")
        elif name in read and sums[name] != read[name]:
            yield Problem(SUMS_FILE, f"has another SHA-256 for {name} than the package has, which is {read[name]}")
    gone = sums.keys() - found.packages.keys()
    # A prune takes a line out before it deletes the object.
    for name in gone & _sums(channel).keys() if gone else ():
        yield Problem(SUMS_FILE, f"has a line for {name}, which is not in the bucket")


def _wrong_copies(
    channel: Channel,
    copies: Mapping[str, str],
    found: Contents,
    read: Mapping[str, str],
    threads: Executor,
    counter: Counter,
) -> Iterator[Problem]:
    def sha256(copy: str) -> str | None:
        name = f"{LATEST}/{copy}"
        return channel.bucket.sha256(channel.key(*name.split("/")), partial(counter.add, f"{channel.name}: {name}"))

    for copy, original in copies.items():
        if copy not in found.latest:
            yield Problem(f"{LATEST}/{copy}", f"is not there; it should be a copy of {original}")
    there = [(copy, original) for copy, original in copies.items() if copy in found.latest and original in read]
    for (copy, original), digest in zip(there, threads.map(sha256, [copy for copy, _ in there]), strict=True):
        if digest != read[original]:
            yield Problem(f"{LATEST}/{copy}", f"is not a copy of the newest version, {original}")


def _stray_copies(lives: Mapping[str, Live], copies: Mapping[str, str], found: Contents) -> Iterator[Problem]:
    for copy in found.latest.keys() - copies.keys():
        if copy.partition("/")[0] in lives:
            yield Problem(f"{LATEST}/{copy}", "is of a package that the index does not have")

"""Packages join a channel: objects first, then SHA256SUMS, the index, the copies of the newest, and install.sh.

A push that was killed anywhere is finished by running it again, and of two at the same time neither loses anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pakman import install_script, version
from pakman.apk.index import Stanza, read_index
from pakman.apk.package import Package
from pakman.bucket import Held, content
from pakman.bucket.pool import Counter, OnProgress, workers
from pakman.channels import FOR_EVER, MUTABLE, Channel, file_name, tombstones, wrong_field
from pakman.channels.versions import application, newest
from pakman.errors import BucketError, UsageError
from pakman.install_script import PublicKeyAt
from pakman.repository import INDEX_FILE, Repository

SUMS_FILE = "SHA256SUMS"
INSTALL_FILE = "install.sh"
_SUM = re.compile(r"([0-9a-f]{64})  ([a-z0-9_]+/[A-Za-z0-9._~+-]+\.apk)")
MOST_OF_SUMS = 64 << 20
"""Bytes; a package takes about 100 of them."""
_MOST_OF_SCRIPT = 1 << 20
_ATTEMPTS = 100
"""Of a copy of the newest, while others go on replacing the index."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A package that is to join: its entry in the index, its file, and that file's SHA-256 in hex."""

    stanza: Stanza
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Joined:
    """Where a channel is, and which of the packages are new in it (in a plan: would be)."""

    name: str
    path: str
    """The key of the repository in the bucket."""
    url: str
    """What a line in /etc/apk/repositories names."""
    install_script_url: str
    uploaded: tuple[str, ...]
    """Keys of packages."""
    skipped: tuple[str, ...]
    """Those that were there already, with the same bytes."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self)


Wanted = Mapping[str, Sequence[Addition]]
"""What is to join, by the architecture whose index names it."""


def built(repositories: Iterable[Repository]) -> Wanted:
    """Return what a build left, for `add`. Raises UsageError where an index is none, or does not fit its packages."""
    found: dict[str, list[Addition]] = {}
    for repository in repositories:
        named = {file_name(stanza): stanza for stanza in read_index(repository.index).stanzas}
        found[repository.arch] = [
            Addition(_own(repository, named.get(f"{each.name}-{each.version}.apk"), each), each.path, each.sha256)
            for each in repository.packages
        ]
    return found


def _own(repository: Repository, stanza: Stanza | None, package: Package) -> Stanza:
    """Return a package's entry in the repository's index; one that a channel would not read again is refused."""
    wrong = None if stanza is None else wrong_field([stanza], repository.arch)
    if stanza is not None and wrong is None:
        return stanza
    what = "does not name it" if wrong is None else f"has {wrong[0]}:{wrong[1][:80]!r} of it"
    raise UsageError(
        f"{package.path} and the index beside it do not fit: the index {what}",
        hint="run `pakman build` again, into an empty directory",
    )


def refuse(channel: Channel, wanted: Wanted) -> None:
    """Raise BucketError for what `add` would refuse, before anything is stored; what others do meanwhile aside.

    Raises UsageError for an address that install.sh cannot have.
    """
    _install_script(channel, "any")
    # Those that nothing is to join, too: all of a channel is one project's, install.sh and SHA256SUMS included.
    for arch in {*wanted, *channel.architectures()}:
        live = channel.index(arch)
        _merged(channel, arch, wanted.get(arch, ()), () if live is None else live.stanzas)


def plan(channel: Channel, wanted: Wanted, *, on_notice: Callable[[str], None] = lambda _: None) -> Joined:
    """Return what `add` would come to now; nothing is stored."""
    _say_what_is_older(channel, wanted, _live(channel, wanted), on_notice)
    there = {key for key, _ in _keyed(channel, wanted) if channel.bucket.head(key) is not None}
    return _joined(channel, wanted, {key for key, _ in _keyed(channel, wanted)} - there)


def kept_true(channel: Channel, wanted: Wanted, package: str, joined: Joined) -> tuple[str, ...]:
    """Return the keys of what `add` brings up to date behind the packages, in its order.

    None where a plan has nothing to store, the indexes name it all, and install.sh is what it would be.
    """
    live = _live(channel, wanted)
    if not joined.uploaded and all(each.stanza in live[arch] for arch, all_ in wanted.items() for each in all_):
        held = channel.bucket.read(channel.key(INSTALL_FILE), _MOST_OF_SCRIPT)
        # It names the keys, too: with others the indexes would be signed anew.
        if held is not None and held.body == _install_script(channel, package):
            return ()
    names = {arch: sorted({each.stanza.name for each in additions}) for arch, additions in wanted.items()}
    return (
        channel.key(SUMS_FILE),
        *(channel.key(arch, INDEX_FILE) for arch in names),
        *(channel.key("latest", arch, f"{name}.apk") for arch in names for name in names[arch]),
        channel.key(INSTALL_FILE),
    )


def add(
    channel: Channel,
    wanted: Wanted,
    package: str,
    *,
    on_progress: OnProgress = lambda *_: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Joined:
    """Let packages join a channel, whose install.sh installs `package`. Raises BucketError.

    The public keys are in the bucket already; `on_progress` is called as `publish` does, `on_notice` with a sentence.
    """
    channel.bucket.refuse_without_conditions()
    refuse(channel, wanted)
    revived = tombstones.revive(
        channel, [f"{arch}/{file_name(each.stanza)}" for arch, all_ in wanted.items() for each in all_], on_notice
    )
    with closing(channel.bucket), workers(channel.bucket.concurrency) as (files, parts):
        counter = Counter(sum(each.path.stat().st_size for _, each in _keyed(channel, wanted)), on_progress)
        stored = {
            key: files.submit(_store, channel, key, each, parts, counter) for key, each in _keyed(channel, wanted)
        }
        new = {key for key, each in stored.items() if each.result()}
        if in_parts := {key for key, each in _keyed(channel, wanted) if _content(each).parts > 1}:
            channel.bucket.abort_left_behind(channel.path, in_parts)
    _note_sums(channel, wanted)
    live = {
        arch: channel.edit(arch, partial(_merged, channel, arch, additions)).stanzas
        for arch, additions in wanted.items()
    }
    channel.say_who_signs_no_more(on_notice)
    _say_what_is_older(channel, wanted, live, on_notice)
    # It tells nothing any more. Who pushes need not have the right to delete: the next prune has.
    with suppress(BucketError):
        for name in revived:
            tombstones.remove(channel, name)
    for arch, additions in wanted.items():
        refresh_latest(channel, arch, {each.stanza.name for each in additions})
    _write_install_script(channel, package, on_notice)
    return _joined(channel, wanted, new)


def refresh_latest(channel: Channel, arch: str, names: Collection[str], *, and_named: bool = False) -> None:
    """Make `latest/<arch>/<name>.apk` a copy of the newest version in the index; where there is none, remove it.

    That of each of `names` and, if `and_named`, of each package that the index names. Those that are removed go first:
    what is left of a run that was killed tells of it by a copy that is newer than the index.
    Whoever writes last has looked at the index since, so that of many at the same time the newest one stays.
    """
    bucket = channel.bucket
    for _ in range(_ATTEMPTS):
        live = channel.index(arch)
        there = newest(() if live is None else live.stanzas, None if and_named else names)
        for name in sorted({*names, *there}, key=there.__contains__):
            key = channel.key("latest", arch, f"{name}.apk")
            notes, stanza = bucket.notes(key), there.get(name)
            if stanza is None:
                if notes is not None:
                    bucket.delete([key])
                continue
            wanted = {"version": stanza.version, "checksum": stanza.checksum}
            if notes is None or {each: notes.get(each) for each in wanted} != wanted:
                bucket.copy(channel.key(arch, file_name(stanza)), key, cache_control=MUTABLE, notes=wanted)
        now = bucket.head(channel.key(arch, INDEX_FILE))
        if live is None or now is None or now.etag == live.etag:
            return
    raise BucketError(
        f"{channel.key('latest', arch)} in {bucket.location} may not be the newest: "
        "again and again the index had changed meanwhile",
        hint="run it again when fewer others do; if nobody does, something on the way to the server changes ETags",
    )


def _live(channel: Channel, wanted: Wanted) -> dict[str, tuple[Stanza, ...]]:
    found = {arch: channel.index(arch) for arch in wanted}
    return {arch: () if live is None else live.stanzas for arch, live in found.items()}


def _say_what_is_older(
    channel: Channel, wanted: Wanted, live: Mapping[str, tuple[Stanza, ...]], on_notice: Callable[[str], None]
) -> None:
    """Say of which applications the channel has something newer, that machines go on taking."""
    older: dict[tuple[str, str, str], list[str]] = {}
    for arch, additions in wanted.items():
        ours = newest(each.stanza for each in additions if application(each.stanza) == each.stanza.name)
        there = newest(live[arch], ours)
        for name, mine in ours.items():
            theirs = there.get(name, mine)
            if version.sort_key(theirs.version) > version.sort_key(mine.version):
                older.setdefault((name, mine.version, theirs.version), []).append(arch)
    for (name, joining, ahead), arches in older.items():
        on_notice(
            f"{name} {joining} is older than {ahead}, which channel {channel.name} has for {' and '.join(arches)}: "
            "machines take the newer one, unless `pakman repository rollback` takes that back"
        )


def _keyed(channel: Channel, wanted: Wanted) -> list[tuple[str, Addition]]:
    return [
        (channel.key(arch, file_name(each.stanza)), each) for arch, additions in wanted.items() for each in additions
    ]


def _joined(channel: Channel, wanted: Wanted, new: Collection[str]) -> Joined:
    keys = [key for key, _ in _keyed(channel, wanted)]
    return Joined(
        name=channel.name,
        path=channel.path,
        url=channel.bucket.url(channel.path),
        install_script_url=channel.bucket.url(channel.key(INSTALL_FILE)),
        uploaded=tuple(key for key in keys if key in new),
        skipped=tuple(key for key in keys if key not in new),
    )


def _store(channel: Channel, key: str, addition: Addition, parts: Executor, counter: Counter) -> bool:
    """Store a package; return whether it is new."""
    found = _content(addition)
    there = channel.bucket.head(key)
    if there is not None:
        outcome = "same" if channel.bucket.holds(key, found, there) else "different"
    else:
        outcome = channel.bucket.put_new(
            key,
            found,
            content_type="application/octet-stream",
            cache_control=FOR_EVER,
            parts=parts,
            on_bytes=lambda count: counter.add(f"{channel.name}: {file_name(addition.stanza)}", count),
        )
    if outcome == "different":
        raise _refusal(channel, key)
    return outcome == "stored"


def _content(addition: Addition) -> content.Content:
    return content.announced(addition.path, addition.sha256)


def _merged(
    channel: Channel, arch: str, additions: Sequence[Addition], stanzas: tuple[Stanza, ...]
) -> tuple[Stanza, ...]:
    there = {file_name(each): each for each in stanzas}
    new = []
    for each in additions:
        name = file_name(each.stanza)
        if name not in there:
            new.append(each.stanza)
        elif there[name].checksum != each.stanza.checksum:
            raise _refusal(channel, channel.key(arch, name))
    return (*stanzas, *new)


def _refusal(channel: Channel, key: str) -> BucketError:
    return BucketError(
        f"{key} is in s3://{channel.bucket.location.name} already, with other bytes: nothing was overwritten",
        hint="a channel has one package of a version: commit what has changed, tag the commit (`git tag v1.0.1`) and "
        "build again, or give this one another version (--package-version, --package-release)",
    )


def _note_sums(channel: Channel, wanted: Wanted) -> None:
    ours = {f"{arch}/{file_name(each.stanza)}": each.sha256 for arch, all_ in wanted.items() for each in all_}
    edit_sums(channel, lambda sums: {**sums, **ours})


def edit_sums(channel: Channel, change: Callable[[dict[str, str]], Mapping[str, str]]) -> None:
    """Replace SHA256SUMS by what `change` makes of it: SHA-256 in hex by `<arch>/<file>`."""

    def body(held: Held | None) -> bytes:
        sums = change(read_sums(held))
        return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()

    channel.rewrite(channel.key(SUMS_FILE), body, MOST_OF_SUMS, content_type="text/plain; charset=utf-8")


def read_sums(held: Held | None) -> dict[str, str]:
    """Return what SHA256SUMS says, SHA-256 in hex by `<arch>/<file>`; lines of any other form are passed over."""
    lines = [] if held is None else held.body.decode("utf-8", "replace").splitlines()
    return {match[2]: match[1] for match in map(_SUM.fullmatch, lines) if match is not None}


def _write_install_script(channel: Channel, package: str, on_notice: Callable[[str], None]) -> None:
    script, url = _install_script(channel, package), channel.bucket.url(channel.path)
    key, found, others = channel.key(INSTALL_FILE), set[str | None](), set[str | None]()

    def change(held: Held | None) -> bytes:
        if held is not None:
            found.add(install_script.repository_url(held.body))
            others.add(install_script.package(held.body))
        return script

    channel.rewrite(key, change, _MOST_OF_SCRIPT, content_type="text/x-shellscript; charset=utf-8")
    for other in found - {None, url}:
        on_notice(
            f"{key} names {url} from now on, and no longer {other}: is that meant? Whatever goes into a channel should "
            "be given the same --public-url and --endpoint-url"
        )
    for other in others - {None, package}:
        on_notice(
            f"{key} installs {package} from now on, and no longer {other}: is that meant? A channel belongs to one "
            "application: another one needs a --channel or a --prefix of its own"
        )


def _install_script(channel: Channel, package: str) -> bytes:
    bucket = channel.bucket
    keys = [
        PublicKeyAt(
            name=key.name,
            url=bucket.url(bucket.location.key("keys", key.name)),
            sha256=hashlib.sha256(key.public_pem).hexdigest(),
        )
        for key in channel.keys
    ]
    return install_script.render(package=package, keys=keys, repository_url=bucket.url(channel.path))

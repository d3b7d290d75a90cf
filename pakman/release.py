"""The release, told in one function: what the jobs of a matrix have pushed of a commit becomes one thing.

<prefix>/archives/<uuid>/packages.zip
<prefix>/channels/<channel>/<arch>/…                                where a channel is named
<prefix>/deployments/<owner>/<slug>/<commit>/release.json           last: once it is there, the release is complete

All of it is made of what was pushed and of nothing else, so that two who make it make the same.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pakman import archive
from pakman.apk.index import read_index
from pakman.archive import Archive, Entry
from pakman.bucket import Bucket, Stored, content
from pakman.bucket.pool import OnProgress, workers
from pakman.channels import NAME, Channel, adding
from pakman.channels.adding import Joined, Wanted
from pakman.errors import BucketError
from pakman.publish import Publication, publication_of
from pakman.repository import Repository

FILE = "release.json"
_MOST = 8 << 20
"""Bytes of a release.json; a package takes 300 of them."""


@dataclass(frozen=True, slots=True)
class Release:
    """What has become of a commit: its release.json, and all that this names."""

    path: str
    """The key of release.json."""
    url: str
    body: bytes
    """Its bytes."""
    archive_path: str
    repositories: tuple[Repository, ...]
    publication: Publication
    """Where the commit's repository is; what of the release itself is new (in a plan: would be), and what was there."""
    joined: Joined | None
    """The channel."""
    was_there: bool
    """It had been made before: nothing was stored."""


def release(
    bucket: Bucket,
    repositories: tuple[Repository, ...],
    folder: Path,
    *,
    channel: Channel | None = None,
    on_progress: OnProgress = lambda *_: None,
    on_notice: Callable[[str], None] = lambda _: None,
    dry_run: bool = False,
) -> Release:
    """Make a release of what was pushed of a commit: the archive, the channel, and last release.json.

    `repositories` are what `pushed.fetch` has left here, `folder` has room for the archive; `on_notice` is told what is
    notable. What would be refused is refused before anything is stored. Made again, it changes nothing: neither is a
    version that was taken out of the channel since put back. One that was killed is finished by making it again. Raises
    BucketError.
    """
    first = _refuse_several(repositories)
    here = bucket.location.key("deployments", first.owner, first.slug, str(first.commit))
    made = _archive(bucket, repositories, folder)
    path = f"{here}/{FILE}"
    body = _body(bucket, repositories, here, made, channel)
    was_there = _is_there(bucket, path, body)
    wanted = {} if was_there else adding.built(repositories)
    if channel is not None:
        adding.refuse(channel, wanted)
    if dry_run:
        new = {key for key in (made.key, path) if bucket.head(key) is None}
        joined = None if channel is None else adding.plan(channel, wanted)
    else:
        new = {made.key} if archive.store(bucket, made, on_progress=on_progress) else set()
        if channel is None:
            joined = None
        else:
            # That took a while: if there is another release meanwhile, this one joins no channel.
            _is_there(bucket, path, body)
            joined = _join(channel, wanted, first.packages[0].name, on_progress, on_notice)
        new |= {path} if not was_there and _store(bucket, path, body, folder, joined) else set()
    keys = (made.key, path)
    return Release(
        path=path,
        url=bucket.url(path),
        body=body,
        archive_path=made.key,
        repositories=repositories,
        publication=publication_of(
            bucket,
            first,
            here,
            uploaded=tuple(key for key in keys if key in new),
            skipped=tuple(key for key in keys if key not in new),
        ),
        joined=joined,
        was_there=was_there,
    )


def _refuse_several(repositories: tuple[Repository, ...]) -> Repository:
    """Raise BucketError where the architectures are not of one release; return the first."""
    first = repositories[0]
    for other in repositories[1:]:
        ours, theirs = _what_is_one(first), _what_is_one(other)
        for what in ours:
            if ours[what] != theirs[what]:
                raise BucketError(
                    f"the architectures of {first.commit} are not of one release: the {what} is {ours[what]} for "
                    f"{first.arch}, but {theirs[what]} for {other.arch}",
                    hint="a commit is pushed once: push another one, all architectures alike (jobs of one workflow run "
                    "have the same release; elsewhere give --package-version and --package-release), or remove what is "
                    "there of this one first",
                )
    return first


def _what_is_one(repository: Repository) -> dict[str, str]:
    main = repository.packages[0]
    return {
        "project": repository.project,
        "package": main.name,
        "version": main.version,
        "stack": repository.stack,
        "signing key": repository.key_name,
        "previous signing key": repository.previous_key_name or "none",
    }


def _archive(bucket: Bucket, repositories: Iterable[Repository], folder: Path) -> Archive:
    """Write the archive of files that are here; it is the one that `pakman deploy` would make of their objects."""
    files = {
        f"{each.arch}/{path.name}": path
        for each in repositories
        for path in (each.index, *(package.path for package in each.packages))
    }

    def copy(entry: Entry, stream: IO[bytes]) -> None:
        with files[entry.name].open("rb") as file:
            while block := file.read(1 << 20):
                stream.write(block)

    wanted = tuple(Entry(name, name, Stored(files[name].stat().st_size, "")) for name in sorted(files))
    return archive.made_of(bucket.location, wanted, folder, copy)


def _body(
    bucket: Bucket, repositories: tuple[Repository, ...], here: str, made: Archive, channel: Channel | None
) -> bytes:
    """Return the content of release.json; where it says where something is, that is a key of the bucket."""
    first = repositories[0]
    main = first.packages[0]
    described: dict[str, Any] = {
        "owner": first.owner,
        "project": first.project,
        "slug": first.slug,
        "name": main.name,
        "version": main.version,
        "commit": first.commit,
        "time": _time(repositories),
        "stack": first.stack,
        "builder": {each.arch: {"name": each.builder.name, "pakman": each.builder.pakman} for each in repositories},
        "repository": here,
        "public_key": bucket.location.key("keys", first.key_name),
        "archive": made.key,
        "channel": None if channel is None else {"name": channel.name, "path": channel.path},
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "arch": package.arch,
                "file": f"{each.arch}/{package.path.name}",
                "size": package.size,
                "sha256": package.sha256,
            }
            for each in repositories
            for package in each.packages
        ],
    }
    return f"{json.dumps(described, indent=2)}\n".encode()


def _time(repositories: Iterable[Repository]) -> str:
    """Return when the packages say that they were built, in UTC: the clock would make another release each time."""
    stanzas = [stanza for each in repositories for stanza in read_index(each.index).stanzas]
    newest = max((int(each.field("t")) for each in stanzas if _SECONDS.fullmatch(each.field("t"))), default=0)
    return datetime.datetime.fromtimestamp(min(newest, _LAST_TIME), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_SECONDS = re.compile(r"[0-9]{1,19}")
_LAST_TIME = 253402300799
"""The year 9999 ends there."""


def _is_there(bucket: Bucket, path: str, body: bytes, joined: Joined | None = None) -> bool:
    """Say whether this very release was made before; raise BucketError where another one was, and what this one did."""
    held = bucket.read(path, _MOST)
    if held is None or held.body == body:
        return held is not None
    done, undo = "nothing was changed", ""
    if joined is not None:
        done = f"another release was quicker, but its packages have joined channel {joined.name}"
        undo = f"`pakman repository rollback {joined.name}` goes back to the version before them; "
    raise BucketError(
        f"{path} is in {bucket.location} already, with {_difference(held.body, body)}: {done}",
        hint=f"{undo}a commit is released once: push another one. `pakman push --channel NAME` lets its packages join "
        "a channel, and `pakman repository promote` another one; to release it otherwise, remove that file first",
    )


def _difference(theirs: bytes, ours: bytes) -> str:
    try:
        before, now = json.loads(theirs), json.loads(ours)
        named = [name for name in now if before.get(name) != now[name]]
    except (ValueError, AttributeError, RecursionError):
        named = []
    shown = [_channel(before) if name == "channel" else name for name in named]
    return f"another {' and '.join(shown)}" if shown else "other content"


def _channel(before: dict[str, Any]) -> str:
    """Return which channel a release has joined, for a sentence; whoever wrote it, it is no more than a name."""
    held = before.get("channel")
    name = held.get("name") if isinstance(held, dict) else None
    if isinstance(name, str) and NAME.fullmatch(name):
        return f"channel (it joined {name})"
    return "channel (it joined none)" if held is None else "channel"


def _join(
    channel: Channel, wanted: Wanted, package: str, on_progress: OnProgress, on_notice: Callable[[str], None]
) -> Joined:
    # Whoever took a version out of the channel after its release does not find it there again.
    if not wanted:
        return adding.plan(channel, wanted)
    return adding.add(channel, wanted, package, on_progress=on_progress, on_notice=on_notice)


def _store(bucket: Bucket, path: str, body: bytes, folder: Path, joined: Joined | None) -> bool:
    """Store release.json; return whether it is new."""
    file = folder / FILE
    with archive.room():
        file.write_bytes(body)
    with workers(1) as (_, parts):
        outcome = bucket.put_new(
            path,
            content.read_whole(file),
            content_type="application/json",
            cache_control="public, max-age=31536000, immutable",
            parts=parts,
        )
    return outcome == "stored" or not _is_there(bucket, path, body, joined)

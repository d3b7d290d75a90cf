"""The archive of a commit: a zip file of all that lies below its prefix in the bucket, for the deployment service.

The service takes the last two parts of each entry as <arch>/<file>, and serves what comes out as an apk repository. So
an entry is exactly that; there are none for folders, and none for the public key, whose folder would be taken for an
architecture: the service has the key from whoever registered the package there.
"""

from __future__ import annotations

import re
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from pakman import scratch as directories
from pakman.bucket import Bucket, Content, Location, Stored, content
from pakman.bucket.pool import Counter, OnProgress, workers
from pakman.errors import BucketError, DeploymentError
from pakman.names import ARCHITECTURES
from pakman.repository import INDEX_FILE

FILE = "packages.zip"

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""A zip file knows no earlier time."""

_ANY = {"noarch", "all"}
"""What a manifest may name that is no folder: those packages lie with the architecture that built them."""


_PACKAGE = re.compile(r"[A-Za-z0-9._~+-]+\.apk")
"""All that a package's file is ever called; other names would be printed, and become files of whoever unpacks them."""


class MissingError(DeploymentError):
    """Not all architectures have arrived."""


NOTHING_THERE = (
    "is this what they were pushed as (--sha, --project), and where to (--bucket, --prefix)? if nobody has pushed them "
    "yet: `pakman push`, `pakman run`"
)
"""What to do where nothing of a commit has arrived."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive, `<arch>/<file>`, and the object that it is made of."""

    name: str
    key: str
    stored: Stored


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive on this machine, and the key of the object that it becomes."""

    key: str
    content: Content


Fetch = Callable[[Entry, IO[bytes]], object]
"""Writes an entry to a file; raises BucketError."""


def listed(bucket: Bucket, folder: str) -> dict[str, Stored]:
    """Return what lies below a commit's prefix in the bucket, by its name there; BucketError where it does not say."""
    found = bucket.list(f"{folder}/")
    if found is None:
        raise BucketError(
            f"the credentials may not list what is in {bucket.location}",
            hint="an archive is made of what is there: they need s3:ListBucket",
        )
    return {key.removeprefix(f"{folder}/"): stored for key, stored in found.items()}


def architectures_in(names: Iterable[str]) -> set[str]:
    """Return the architectures that have arrived: those whose index is there, for that comes last."""
    return {name.partition("/")[0] for name in names if name.endswith(f"/{INDEX_FILE}")} & set(ARCHITECTURES)


def entries(bucket: Bucket, folder: str, architectures: Collection[str]) -> tuple[Entry, ...]:
    """Return what the archive of a commit holds, sorted by name; `folder` is the commit's prefix in the bucket.

    Raises MissingError where no architecture has arrived, or one of `architectures` has not; BucketError where the
    bucket does not say.
    """
    named = listed(bucket, folder)
    there = architectures_in(named)
    missing = [arch for arch in architectures if arch not in there | _ANY]
    if missing or not there:
        raise MissingError(
            f"{folder} in {bucket.location} has no packages{' for ' + ', '.join(missing) if missing else ''} yet",
            hint="push them first (`pakman push`, `pakman run`), from the commit that is to be deployed"
            if there
            else NOTHING_THERE,
        )
    return tuple(
        Entry(name, f"{folder}/{name}", named[name])
        for name in sorted(named)
        for arch, _, file in [name.partition("/")]
        if arch in there and (file == INDEX_FILE or _PACKAGE.fullmatch(file))
    )


def ship(bucket: Bucket, wanted: tuple[Entry, ...], *, on_progress: OnProgress = lambda *_: None) -> str:
    """Store the archive of these entries, unless it is there already; return its key.

    `on_progress` is told an entry, then the archive, and the bytes so far and in all of either. Raises BucketError.
    """
    fetched = Counter(sum(entry.stored.size for entry in wanted), on_progress)

    def fetch(entry: Entry, stream: IO[bytes]) -> None:
        bucket.download(entry.key, stream, entry.stored.size, partial(fetched.add, entry.name))

    with scratch() as folder:
        made = made_of(bucket.location, wanted, folder, fetch)
        store(bucket, made, on_progress=on_progress)
        return made.key


def made_of(location: Location, wanted: tuple[Entry, ...], folder: Path, fetch: Fetch) -> Archive:
    """Write the archive of these entries into a folder.

    Its name is made of its bytes, and these of nothing but the entries: a run after one that was killed finds what that
    one stored, and no other archive ever takes its place. Raises DeploymentError where there is no room for it.
    """
    file = folder / FILE
    _write(wanted, file, fetch)
    found = content.read(file)
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{found.sha256}"))
    return Archive(location.key("archives", name, FILE), found)


def store(bucket: Bucket, archive: Archive, *, on_progress: OnProgress = lambda *_: None) -> bool:
    """Store an archive unless it is there already; return whether it is new. Raises BucketError."""
    key, found = archive.key, archive.content
    there = bucket.head(key)
    outcome = "same"
    if there is None or not bucket.holds(key, found, there):
        sent = Counter(found.size, on_progress)
        with workers(bucket.concurrency) as (_, parts):
            outcome = bucket.put_new(
                key,
                found,
                content_type="application/zip",
                cache_control="public, max-age=31536000, immutable",
                parts=parts,
                on_bytes=partial(sent.add, FILE),
            )
    if outcome == "different":
        raise BucketError(
            f"{key} is in {bucket.location} already, with other bytes: nothing was overwritten",
            hint="it is no archive of pakman's: remove it and run this again",
        )
    if found.parts > 1:
        bucket.abort_left_behind(bucket.location.key("archives"), {key})
    return outcome == "stored"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for packages and archives that is gone afterwards. Raises DeploymentError where there is none."""
    try:
        made = directories.make(Path(tempfile.gettempdir()), "pakman-archive-")
    except OSError as error:
        raise DeploymentError(
            f"there is no room for the archive: {error.strerror}", hint="name a folder that has some in TMPDIR"
        ) from error
    try:
        yield made.path
    finally:
        made.remove()


def _write(wanted: tuple[Entry, ...], file: Path, fetch: Fetch) -> None:
    with room(), zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry in wanted:
            label = zipfile.ZipInfo(entry.name, _EARLIEST)
            label.create_system, label.external_attr = 3, 0o100644 << 16
            # It decides between zip and zip64, which are other bytes.
            label.file_size = entry.stored.size
            with archive.open(label, "w") as stream:
                fetch(entry, stream)
            if label.file_size != entry.stored.size:
                raise BucketError(f"{entry.key} has changed meanwhile", hint="run this again")


@contextmanager
def room() -> Iterator[None]:
    """Raise DeploymentError where what is written inside does not fit."""
    try:
        yield
    except OSError as error:
        raise DeploymentError(
            f"the archive cannot be written: {error.strerror or error}",
            hint="it takes as much room as all packages together: name a folder that has that in TMPDIR",
        ) from error

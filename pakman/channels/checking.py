"""A package of a channel against what its index says of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pakman import scratch
from pakman.apk.index import Stanza
from pakman.apk.read import Control, data_is_true, read_control, read_package
from pakman.apk.signature import signed_by
from pakman.bucket import Bucket
from pakman.channels import signers
from pakman.errors import BucketError, SigningError, UsageError
from pakman.signing import PublicKey

AT_ONCE = 4
"""Packages that are fetched and read at the same time."""
_SCRATCH = "pakman-channel-"


def problems(path: Path, stanza: Stanza, trusted: Sequence[PublicKey]) -> list[str]:
    """Return what a package that was fetched has that its index says otherwise, each said of "it"; empty: all is well.

    Everything is read: control segment and signature, which one of `trusted` has to have made; and where these vouch
    for the data, each file of that: what nobody vouches for is not unpacked.
    """
    size = path.stat().st_size
    if size != int(stanza.field("S")):
        return [f"has {size} bytes, but its index says {stanza.field('S')}"]
    try:
        control = read_control(path)
        found = _misfits(control, stanza, trusted)
        if not found and data_is_true(path, control):
            read_package(path)
        elif not found:
            found = ["has been changed: its data is not what its control segment, which is signed, says it is"]
    except (UsageError, SigningError) as error:
        return [error.message.removeprefix(str(path)).lstrip(": ")]
    return found


def _misfits(control: Control, stanza: Stanza, trusted: Sequence[PublicKey]) -> list[str]:
    found = []
    if control.checksum != stanza.checksum:
        found.append(f"is another build than its index names: {control.checksum}, not {stanza.checksum}")
    said, is_ = (stanza.name, stanza.version), (control.metadata.pkgname, control.metadata.pkgver)
    if said != is_:
        found.append(f"is {is_[0][:80]!r} {is_[1][:80]!r}, not {said[0]} {said[1]}")
    if control.metadata.arch not in (stanza.field("A"), "noarch"):
        found.append(f"is for {control.metadata.arch[:80]!r}, not for {stanza.field('A')}")
    if not any(signed_by(key, control.signatures, control.digests) for key in trusted):
        found.append(f"is signed by {signers(control.signatures)}, which is none of the keys that are trusted here")
    return found


def fetch(bucket: Bucket, key: str, path: Path, most: int, on_bytes: Callable[[int], None]) -> None:
    """Download a package of at most `most` bytes. Raises BucketError, also where there is no room for it."""
    try:
        with path.open("wb") as file:
            bucket.download(key, file, most, on_bytes)
    except OSError as error:
        raise BucketError(
            f"{key} in {bucket.location} cannot be fetched to {path.parent}: {error.strerror or error}",
            hint="name a folder that has room in TMPDIR",
        ) from error


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a directory for packages; it is gone afterwards. Raises BucketError where none can be made."""
    try:
        made = scratch.make(Path(tempfile.gettempdir()), _SCRATCH)
    except OSError as error:
        raise BucketError(
            f"there is no room for the packages that are fetched: {error.strerror}",
            hint="name a folder that has some in TMPDIR",
        ) from error
    try:
        yield made.path
    finally:
        made.remove()

"""A file on this machine as S3 will see it: its size, its digest, its parts."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pakman.bucket.pool import checkpoint
from pakman.errors import BucketError

PART_SIZE = 8 << 20
"""Bytes. A file up to this size is one PUT; a larger one is a multipart upload. S3 wants 5 MiB at least."""

_MOST_PARTS = 10_000
"""docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

_BLOCK = 4 << 20
"""Bytes that are hashed at once. Between two blocks a thread may wait for its turn."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds, or is said to hold: `sha256` is in hex; `stamp` changes when the file does."""

    path: Path
    size: int
    sha256: str
    part_size: int
    stamp: tuple[int, int, int]

    @property
    def parts(self) -> int:
        """The number of parts, one at least; a multipart upload where there are more."""
        return -(-self.size // self.part_size) or 1

    def part(self, number: int) -> bytes:
        """Read one part, counted from 0; raises BucketError where the file has changed, or cannot be read any more."""
        checkpoint()
        try:
            with self.path.open("rb", buffering=0) as file:
                length = min(self.part_size, self.size - number * self.part_size)
                body = os.pread(file.fileno(), length, number * self.part_size)
                unchanged = len(body) == length and _stamp(os.fstat(file.fileno())) == self.stamp
        except OSError as error:
            raise BucketError(
                f"{self.path} can no longer be read: {error.strerror}", hint="run it again when it can"
            ) from error
        if not unchanged:
            raise BucketError(
                f"{self.path} changed while it was being pushed",
                hint="build first, then push, not both at the same time",
            )
        return body

    def md5s(self) -> tuple[bytes, ...]:
        """Compute the MD5 of every part."""
        return tuple(md5(self.part(number)) for number in range(self.parts))

    def is_true(self) -> bool:
        """Read the file and say whether it has this size and SHA-256. Raises OSError."""
        found = read(self.path)
        return (found.size, found.sha256, found.stamp) == (self.size, self.sha256, self.stamp)


def announced(path: Path, sha256: str, *, part_size: int = PART_SIZE) -> Content:
    """Return what a file of this digest would be, without reading it; `is_true` reads it. Raises OSError."""
    status = path.stat()
    return _content(path, status, sha256, part_size)


def read(path: Path, *, part_size: int = PART_SIZE) -> Content:
    """Read a file that is to be one PUT up to `part_size`, parts of it above. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        digest = hashlib.sha256()
        room = memoryview(bytearray(min(_BLOCK, status.st_size)))
        while count := file.readinto(room):
            checkpoint()
            digest.update(room[:count])
    return _content(path, status, digest.hexdigest(), part_size)


def _content(path: Path, status: os.stat_result, sha256: str, part_size: int) -> Content:
    part_size = max(part_size, -(-status.st_size // _MOST_PARTS))
    return Content(path, status.st_size, sha256, part_size, _stamp(status))


def read_whole(path: Path) -> Content:
    """Read a file that is to be one PUT, whatever its size. Raises OSError."""
    return read(path, part_size=max(1, path.stat().st_size))


def etag(md5s: tuple[bytes, ...]) -> str:
    """Return the ETag of an object with such parts, unquoted: the MD5, or the MD5 of the MD5s and their number."""
    return md5s[0].hex() if len(md5s) == 1 else f"{md5(b''.join(md5s)).hex()}-{len(md5s)}"


def md5(body: bytes) -> bytes:
    """Return the digest that S3 speaks in: against accidents, not against attackers."""
    return hashlib.md5(body, usedforsecurity=False).digest()


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns

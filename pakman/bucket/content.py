"""A file on this machine as S3 will see it: its size, its digests, its parts."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

PART_SIZE = 8 << 20
"""Bytes. A file up to this size is one PUT; a larger one is a multipart upload. S3 wants 5 MiB at least."""

_MOST_PARTS = 10_000
"""docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held when it was read; `sha256` is in hex, `md5s` has the MD5 of every part, at least one."""

    path: Path
    size: int
    sha256: str
    md5s: tuple[bytes, ...]
    part_size: int

    @property
    def etag(self) -> str:
        """The ETag that S3 gives to these bytes, unquoted: the MD5, or the MD5 of the parts' MD5s and their number."""
        if len(self.md5s) == 1:
            return self.md5s[0].hex()
        return f"{hashlib.md5(b''.join(self.md5s), usedforsecurity=False).hexdigest()}-{len(self.md5s)}"

    def part(self, number: int) -> bytes:
        """Read one part, counted from 0; shorter than it was where the file has become shorter since."""
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), self.length(number), number * self.part_size)

    def length(self, number: int) -> int:
        """Return the size of one part, counted from 0."""
        return min(self.part_size, self.size - number * self.part_size)


def read(path: Path, parts: Executor, *, part_size: int = PART_SIZE) -> Content:
    """Compute the digests of a file, those of a large one's parts in `parts`; at most a part per worker is in memory.

    Raises OSError.
    """
    size = path.stat().st_size
    if size <= part_size:
        return read_whole(path)
    part_size = max(part_size, -(-size // _MOST_PARTS))
    whole = parts.submit(_sha256, path)
    unread = Content(path, size, "", (), part_size)
    md5s = tuple(parts.map(lambda number: md5(unread.part(number)), range(-(-size // part_size))))
    return Content(path, size, whole.result(), md5s, part_size)


def read_whole(path: Path) -> Content:
    """Compute the digests of a file that is to be one PUT, whatever its size. Raises OSError."""
    body = path.read_bytes()
    return Content(path, len(body), hashlib.sha256(body).hexdigest(), (md5(body),), len(body))


def md5(body: bytes) -> bytes:
    """Return the digest that S3 speaks in: against accidents, not against attackers."""
    return hashlib.md5(body, usedforsecurity=False).digest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

"""A cache that outlives its build root: one tar file on this machine, written whole or not at all.

Whoever can write to the cache directory can write such a file, a build fills it, and a disk or a service that carries
it from machine to machine can damage it. So a member gets through only as a plain file or directory that the cache's
owner asks for, on the way in and on the way out, and a sum at the end says whether everything is still there.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from pakman import scratch

MOST = 2 << 30
"""Bytes that a cache may have."""

Wanted = Callable[[tarfile.TarInfo], bool]
"""Says whether a plain file or directory, named by its path in the cache (without `.` and `..`), belongs there."""

_SUM = "pakman.sha256"
_SCRATCH = ".writing-"
_CHUNK = 1 << 20
_BUFFER = 1 << 16
"""Bytes that tarfile reads and writes at once; it copies the rest of them for each small file."""


class DamagedCacheError(Exception):
    """What lies there is no cache, or no longer all of it."""


class LargeCacheError(Exception):
    """What is to be kept is more than MOST."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a cache, whatever the order and the times of its files are."""

    sum: str
    """Of paths, kinds and bytes."""
    size: int
    """Bytes of all files together."""


class _Counter:
    """Adds up members; an order has no meaning, so neither has it in the sum."""

    def __init__(self) -> None:
        self._sum = 0
        self.size = 0

    def add(self, entry: tarfile.TarInfo, digest: bytes) -> None:
        head = f"{entry.name}\0{entry.mode:o}\0{entry.isdir()}\0".encode("utf-8", "surrogateescape")
        self._sum += int.from_bytes(hashlib.sha256(head + digest).digest(), "big")
        self.size += entry.size

    def content(self) -> Content:
        return Content(f"{self._sum % (1 << 256):064x}", self.size)


class _Tee:
    """A file whose digest is known when it has been read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        chunk = self._source.read(size)
        self.digest.update(chunk)
        return chunk


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes] | None]:
    """Yield a cache's file, None where there is none; raise DamagedCacheError for what no cache can be."""
    try:
        # A link leads who knows where, and a FIFO would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise DamagedCacheError(error.strerror or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedCacheError("it is no file")
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a file descriptor, not a path)
        yield file


def checked(file: IO[bytes], wanted: Wanted) -> Content:
    """Read a cache to its end and return what is in it; raise DamagedCacheError where something is missing."""
    counter = _Counter()
    said = ""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=_BUFFER) as tar:
            for entry in tar:
                if entry.name == _SUM and entry.type == tarfile.REGTYPE and entry.size == 64:
                    said = _content(tar, entry).read().decode("ascii", "replace")
                else:
                    _pass_on(tar, entry, wanted, counter)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        raise DamagedCacheError(str(error)) from error
    if (found := counter.content()).sum != said:
        raise DamagedCacheError("it is not whole")
    return found


def pour(file: IO[bytes], pipe: IO[bytes], wanted: Wanted) -> None:
    """Write what is wanted of a checked cache into a pipe, as a tar of plain files and directories."""
    file.seek(0)
    with (
        tarfile.open(fileobj=file, mode="r|", bufsize=_BUFFER) as tar,
        tarfile.open(fileobj=pipe, mode="w|", format=tarfile.GNU_FORMAT, bufsize=_BUFFER) as out,
    ):
        for entry in tar:
            _pass_on(tar, entry, wanted, _Counter(), out=out)


def save(
    path: Path, sources: Iterable[tuple[str, IO[bytes]]], wanted: Wanted, *, owner: int, before: Content | None
) -> Content:
    """Keep what is wanted of tar streams, each below its prefix; where it is what was there `before`, write nothing.

    Only members of the user `owner` are taken: another's may be a second name for a file that the build cannot read.
    Raises OSError where it cannot be written, LargeCacheError where there is too much of it.
    """
    counter = _Counter()
    _make(path.parent)
    work = scratch.make(path.parent, _SCRATCH)
    try:
        new = work.path / path.name
        with new.open("xb") as file:
            new.chmod(0o600)
            with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT, bufsize=_BUFFER) as out:
                for prefix, stream in sources:
                    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER) as tar:
                        for entry in tar:
                            if entry.uid == owner:
                                _pass_on(tar, entry, wanted, counter, prefix=prefix, out=out)
                found = counter.content()
                _add_sum(out, found)
        if found != before and (found.size or before is not None):
            _hand_over(new, path.parent)
            new.replace(path)
    finally:
        work.remove()
    return found


def _pass_on(
    tar: tarfile.TarFile,
    entry: tarfile.TarInfo,
    wanted: Wanted,
    counter: _Counter,
    *,
    prefix: str = "",
    out: tarfile.TarFile | None = None,
) -> None:
    """Count a member, and write it to `out`, as a plain file or directory, where it is wanted."""
    path = _path(entry.name, prefix)
    # A sparse file's holes are as long as its header says.
    plain = entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not entry.issparse()
    if path is None or not (plain or entry.isdir()):
        return
    kept = tarfile.TarInfo(path)
    kept.type = tarfile.REGTYPE if plain else tarfile.DIRTYPE
    kept.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    kept.mtime = min(max(int(entry.mtime), 0), (1 << 33) - 1)
    kept.size = entry.size if plain else 0
    if not wanted(kept):
        return
    if counter.size + kept.size > MOST:
        raise LargeCacheError
    tee = _Tee(_content(tar, entry)) if plain else None
    if out is not None:
        out.addfile(kept, tee)  # type: ignore[arg-type]  # it is only read
    elif tee is not None:
        while tee.read(_CHUNK):
            pass
    counter.add(kept, tee.digest.digest() if tee is not None else b"")


def _path(name: str, prefix: str) -> str | None:
    """Return a member's path in the cache, None where it leads elsewhere or is the top itself."""
    parts = [part for part in f"{prefix}/{name}".split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts or not parts else "/".join(parts)


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    if content is None:
        raise tarfile.ReadError(f"{entry.name} is no file")
    return content


def _add_sum(out: tarfile.TarFile, content: Content) -> None:
    entry = tarfile.TarInfo(_SUM)
    entry.size = len(content.sum)
    out.addfile(entry, BytesIO(content.sum.encode()))


def _make(folder: Path) -> None:
    """Make the folder of the caches, and the cache directory that it lies in."""
    for path in (folder.parent, folder):
        path.mkdir(parents=True, exist_ok=True)
        _hand_over(path, path.parent)


def _hand_over(path: Path, to: Path) -> None:
    """Give what root made to the owner of where it lies: in a container that is the runner, who has to read it."""
    if os.geteuid() == 0 and path.lstat().st_uid == 0:
        owner = to.stat()
        with suppress(OSError):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

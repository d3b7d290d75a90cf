"""The snapshot: the application's sources as one tar, whose bytes depend only on names, content and executable bits.

git keeps nothing else of a file, so a checkout on another machine, by another user, at another time, with another
umask, gives the same snapshot.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pakman import pem
from pakman.errors import BuildError
from pakman.recipe import NEVER_SHIPPED

_PIECE = 1 << 20
_PRIVATE = b"PRIVATE KEY-----"


def write(
    source: Path,
    target: Path,
    *,
    top: str,
    mtime: int,
    exclude: Sequence[str] = (),
    skip: Collection[Path] = (),
    is_secret: Callable[[str, bytes], bool] = lambda _name, _content: False,
    on_skipped: Callable[[str], None] = lambda _: None,
) -> str:
    """Write the tar of the directory `source` to `target` and return its SHA-512 in hex.

    Every name begins with `top`/; every entry takes `mtime` (seconds since 1970), belongs to root and has mode 755 or
    644; symbolic links stay what they are, hard links become files. Left out are NEVER_SHIPPED (`.git` at any depth),
    what `exclude` matches, and the paths in `skip` with all below them. So are sockets, pipes and devices, and files
    with a private key of which `is_secret`, asked with name and content, says so: `on_skipped` gets a sentence of each.

    `exclude` has the shell's globs, relative to `source`: `*`, `?` and `[…]` match within one name, and a name that
    begins with a dot only where the pattern has the dot. A directory that matches is left out with all below it.
    Raises BuildError for what cannot be read, what changes while it is read, and what cannot be written.
    """
    # Where a path in `skip` is a link, what it leads to stays out, too: that is the key, or the output, itself.
    skipped = frozenset(place for path in skip for place in (_located(path), path.resolve()))
    walk = _Walk(source.resolve(), tuple(map(_parts, exclude)), skipped, is_secret, on_skipped)
    sha512 = hashlib.sha512()
    try:
        with target.open("wb") as file:
            for piece in _tar(walk, top, mtime):
                sha512.update(piece)
                file.write(piece)
    except OSError as error:
        # What cannot be read has been turned into a BuildError where it was met.
        raise BuildError(
            f"the snapshot of the sources cannot be written to {target}: {error.strerror or error}",
            hint="make room on that disk",
        ) from error
    return sha512.hexdigest()


@dataclass(frozen=True, slots=True)
class _Walk:
    """The way through a source tree, sorted, past what is left out."""

    source: Path
    """Without links in it, as are the paths in `skip`."""
    exclude: tuple[tuple[str, ...], ...]
    skip: frozenset[Path]
    is_secret: Callable[[str, bytes], bool]
    on_skipped: Callable[[str], None]

    def found(self) -> Iterator[tuple[Path, str]]:
        """Yield each path with its name relative to the source; a directory before what is in it."""
        pending = self._listed("")
        while pending:
            relative = pending.pop()
            path = self.source / relative
            if self._is_left_out(relative) or path in self.skip:
                continue
            mode = _status(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                self.on_skipped(f"{relative} is {_kind(mode)}, and stays out of the build")
                continue
            yield path, relative
            if stat.S_ISDIR(mode):
                pending += self._listed(f"{relative}/")

    def _listed(self, directory: str) -> list[str]:
        """Return the names in a directory, relative to the source, the last one first."""
        names = sorted(_names(self.source / directory), key=os.fsencode, reverse=True)
        return [f"{directory}{name}" for name in names]

    def _is_left_out(self, relative: str) -> bool:
        parts = tuple(relative.split("/"))
        # A submodule's .git is a file that names a directory of the builder's machine.
        if parts[0] in NEVER_SHIPPED or parts[-1] == ".git":
            return True
        return any(_matches(parts, pattern) for pattern in self.exclude)


def _located(path: Path) -> Path:
    """Return where a path is, without following it if it is itself a link."""
    absolute = path.absolute()
    return absolute.parent.resolve() / absolute.name if absolute.name not in ("", "..") else absolute.resolve()


def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(part for part in pattern.split("/") if part not in ("", "."))


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Say whether a shell would expand the pattern to this path; the directories above it have been asked before."""
    return len(parts) == len(pattern) and all(
        fnmatch.fnmatchcase(part, glob) and (not part.startswith(".") or glob.startswith("."))
        for part, glob in zip(parts, pattern, strict=True)
    )


def _kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  (names are wanted)
    except OSError as error:
        raise _unreadable(directory, error) from error


def _status(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BuildError:
    if isinstance(error, FileNotFoundError):
        return _changed(path)
    return BuildError(
        f"{path} cannot be read: {error.strerror or error}",
        hint="make it readable for the user who runs pakman, or name it in build.exclude",
    )


def _changed(path: Path) -> BuildError:
    return BuildError(
        f"{path} changed while the snapshot of the sources was taken",
        hint="stop what writes there (a development server, an editor, another build) or name it in build.exclude",
    )


def _tar(walk: _Walk, top: str, mtime: int) -> Iterator[bytes]:
    yield _header(top, tarfile.DIRTYPE, 0o755, mtime)
    for path, relative in walk.found():
        name = f"{top}/{relative}"
        mode = _status(path).st_mode
        if stat.S_ISDIR(mode):
            yield _header(name, tarfile.DIRTYPE, 0o755, mtime)
        elif stat.S_ISLNK(mode):
            yield _header(name, tarfile.SYMTYPE, 0o777, mtime, link=_target(path))
        else:
            yield from _file(path, name, mtime, walk)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, mtime: int, *, size: int = 0, link: str = "") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, mode, mtime, size, link
    entry.uname = entry.gname = "root"
    # Not PAX: busybox's tar, which unpacks it, knows long names only in GNU's way.
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _target(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115  (the text itself: a Path would tidy it)
    except OSError as error:
        raise _unreadable(path, error) from error


def _file(path: Path, name: str, mtime: int, walk: _Walk) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        mode = 0o755 if before.st_mode & stat.S_IXUSR else 0o644
        left = before.st_size
        piece = _read(file, min(left, _PIECE), path) if left else b""
        if left <= pem.MOST_BYTES and _PRIVATE in piece and walk.is_secret(path.name, piece):
            walk.on_skipped(
                f"{path.relative_to(walk.source)} is a private key that signs packages, and stays out of the build"
            )
            return
        yield _header(name, tarfile.REGTYPE, mode, mtime, size=left)
        while piece:
            left -= len(piece)
            yield piece
            piece = _read(file, min(left, _PIECE), path) if left else b""
        after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changed(path)
    yield bytes(-before.st_size % tarfile.BLOCKSIZE)


def _read(file: IO[bytes], size: int, path: Path) -> bytes:
    try:
        piece = file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not piece:
        raise _changed(path)
    return piece

"""A package's tree on disk: what is in it, and its files opened without ever following a link.

The tree was filled by somebody else's code, which may still be there: every directory and file is opened by its own
name below an open directory, links refused, and what was opened is compared to what was listed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pakman.apk import tar
from pakman.errors import BuildError

_TYPES = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to hang where a pipe has taken a file's place.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in the tree."""

    path: bytes
    """Relative to the tree, without a slash at the end."""
    type: bytes
    """One of tar's types; a file that an entry before it has already is a tar.HARDLINK."""
    mode: int
    uid: int
    gid: int
    size: int = 0
    """Bytes of a file's content; 0 for everything else."""
    target: bytes = b""
    """A symbolic link's target; a hard link's first path."""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    inode: tuple[int, int] = (0, 0)
    """Device and number of the inode."""


class Tree:
    """A directory that is to become a package: a context manager, because it stays open."""

    def __init__(self, root: Path) -> None:
        self._root_path = root
        self._root = -1
        self._path = b""
        """The directory opened last; files of one directory come one after the other."""
        self._descriptor = -1

    def __enter__(self) -> Self:
        with _reading(os.fsencode(self._root_path)):
            self._root = os.open(self._root_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self._descriptor, self._root):
            if descriptor >= 0:
                os.close(descriptor)

    def entries(self) -> list[Entry]:
        """Return everything in the tree, sorted by the bytes of its path, so that a directory precedes its content.

        Raises BuildError naming what cannot be read or what no package can hold.
        """
        found: list[Entry] = []
        directories = [b""]
        while directories:
            directory = directories.pop()
            with _reading(directory or b"/"):
                for entry in self._listed(directory):
                    found.append(entry)
                    if entry.type == tar.DIRECTORY:
                        directories.append(entry.path)
        found.sort(key=lambda entry: entry.path)
        return list(_with_hard_links(found))

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[int]:
        """Yield a descriptor of a file; raise BuildError where it is no longer what was listed."""
        directory, _, name = entry.path.rpartition(b"/")
        with _reading(entry.path):
            descriptor = os.open(name, _FILE, dir_fd=self._directory(directory))
            try:
                status = os.fstat(descriptor)
                if (status.st_dev, status.st_ino, status.st_size) != (*entry.inode, entry.size):
                    raise changed(entry)
                yield descriptor
            finally:
                os.close(descriptor)

    def give(self, entry: Entry, uid: int, gid: int) -> None:
        """Give what was listed, itself where it is a link, to a user and a group."""
        directory, _, name = entry.path.rpartition(b"/")
        with _reading(entry.path):
            os.chown(name, uid, gid, dir_fd=self._directory(directory), follow_symlinks=False)

    def _directory(self, path: bytes) -> int:
        """Return a descriptor of a directory, valid until the next call."""
        if not path:
            return self._root
        if path != self._path:
            descriptor = os.open(b".", _DIRECTORY, dir_fd=self._root)
            for part in path.split(b"/"):
                above = descriptor
                try:
                    descriptor = os.open(part, _DIRECTORY, dir_fd=above)
                finally:
                    os.close(above)
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._path, self._descriptor = path, descriptor
        return self._descriptor

    def _listed(self, directory: bytes) -> Iterator[Entry]:
        descriptor = self._directory(directory)
        with os.scandir(descriptor) as listing:
            items = [(os.fsencode(item.name), item.stat(follow_symlinks=False)) for item in listing]
        for name, status in items:
            path = directory + b"/" + name if directory else name
            with _reading(path):
                yield _entry(path, name, status, descriptor)


def changed(entry: Entry) -> BuildError:
    """Return the error for a file that is not what it was when the tree was listed."""
    return BuildError(
        f"{tar.shown(entry.path)} changed while it was being packed",
        hint="end what still writes to the package's tree before package() returns",
    )


def _entry(path: bytes, name: bytes, status: os.stat_result, directory: int) -> Entry:
    kind = _TYPES.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        raise BuildError(
            f"{tar.shown(path)} is a socket, which no package can hold",
            hint="remove it from the package's tree; the program that listens on it makes it anew",
        )
    _refuse_name(path)
    entry = Entry(
        path=path,
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        inode=(status.st_dev, status.st_ino),
    )
    if kind == tar.FILE:
        if status.st_size > tar.MAX_SIZE:
            raise BuildError(
                f"{tar.shown(path)} has {status.st_size} bytes; apk unpacks no file of 8 GiB or more",
                hint="split it, or fetch it when the service is installed",
            )
        return replace(entry, size=status.st_size, xattrs=_xattrs(name, directory))
    if kind == tar.SYMLINK:
        target = os.readlink(name, dir_fd=directory)
        if len(target) > tar.MAX_PATH:
            raise BuildError(f"{tar.shown(path)} points to a path of {len(target)} bytes; apk takes {tar.MAX_PATH}")
        return replace(entry, target=target)
    if kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
        return replace(entry, device=(os.major(status.st_rdev), os.minor(status.st_rdev)))
    return entry


def _refuse_name(path: bytes) -> None:
    """Refuse what apk would pass over in silence or call malicious (`apk_db_install_file`, `apk_extract_v2_entry`)."""
    if any(byte < 0x20 or byte == 0x7F for byte in path):
        raise BuildError(
            f"{tar.shown(path)}: the name holds a line break or another control character, which apk refuses",
            hint="rename it, or leave it out of build.destinations",
        )
    if path.startswith(b".") and b"/" not in path:
        raise BuildError(
            f"/{tar.shown(path)}: apk does not install what begins with a dot in the root directory",
            hint="install it into a directory",
        )
    if len(path) >= tar.MAX_PATH:
        raise BuildError(f"{tar.shown(path[:80])}…: a path of {len(path)} bytes; apk takes less than {tar.MAX_PATH}")


def _xattrs(name: bytes, directory: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return the attributes that belong to the file itself: capabilities and `user.`.

    Labels, access control lists and an overlay's own notes belong to the machine that builds.
    """
    descriptor = os.open(name, _FILE, dir_fd=directory)
    try:
        names = os.listxattr(descriptor)
        wanted = (n for n in names if n == _CAPABILITY or (n.startswith("user.") and not n.startswith("user.overlay.")))
        found = [(os.fsencode(key), os.getxattr(descriptor, key)) for key in sorted(wanted)]
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return ()
    finally:
        os.close(descriptor)
    return tuple((key, _capability(value) if key == _CAPABILITY.encode() else value) for key, value in found)


_CAPABILITY = "security.capability"


def _capability(value: bytes) -> bytes:
    """Return a file's capabilities as the whole machine's.

    Set inside a user namespace, they are revision 3 and name that namespace's root (linux/capability.h): nobody where
    the package is installed.
    """
    if len(value) == 24 and value[3] == 3:
        return value[:3] + b"\x02" + value[4:20]
    return value


def _with_hard_links(found: list[Entry]) -> Iterator[Entry]:
    first: dict[tuple[int, int], bytes] = {}
    for entry in found:
        # Only files: apk links to a regular file of the same package, or not at all.
        path = first.setdefault(entry.inode, entry.path) if entry.type == tar.FILE else entry.path
        if path == entry.path:
            yield entry
        else:
            yield replace(entry, type=tar.HARDLINK, size=0, target=path)


@contextmanager
def _reading(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BuildError(
            f"{tar.shown(path)} in the package's tree cannot be read: {error.strerror or error}",
            hint="let package() make it readable for the user who builds, with a plain install -m 644 for instance",
        ) from error

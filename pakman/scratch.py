"""Directories of one run: gone when it is, and, where it was killed, removed by the next run."""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scratch:
    """A directory; as long as its lock is held, no other run removes it."""

    path: Path
    _lock: int

    def remove(self) -> None:
        """Remove it with all in it."""
        remove(self.path)
        self.release()

    def release(self) -> None:
        """Let go of it and leave it where it is; its name, if it is still the same, is the next run's to remove."""
        os.close(self._lock)


def make(parent: Path, prefix: str, *, before_removal: Callable[[Path], None] = lambda _: None) -> Scratch:
    """Make a directory in `parent`, for its owner's eyes only; remove those of runs that were killed.

    Raises OSError where that is not possible.
    """
    with locked(parent):
        sweep(parent, prefix, before_removal=before_removal)
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(path, _DIRECTORY)
        # Where directories cannot be locked (NFS), nothing is ever removed for another run.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Scratch(path, lock)


def sweep(parent: Path, prefix: str, *, before_removal: Callable[[Path], None] = lambda _: None) -> None:
    """Remove the directories in `parent` that runs have left behind which were killed; a link there is nobody's."""
    for stale in parent.glob(f"{prefix}*"):
        with suppress(OSError), _opened(stale) as descriptor:
            # The kernel let go of the lock when its run ended.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before_removal(stale)
            remove(stale)


def remove(top: Path) -> None:
    """Remove a directory with all in it, as far as that goes; a build may have left it deeper than Python recurses."""
    with suppress(RecursionError):
        shutil.rmtree(top, ignore_errors=True)
    if top.is_dir():
        _flatten(top)
        shutil.rmtree(top, ignore_errors=True)


def _flatten(top: Path) -> None:
    """Move every directory in a tree to its top, from where it was: then no path is long and nothing is deep."""
    unique = secrets.token_hex(8)
    names = (f"{unique}-{number}" for number in itertools.count())
    pending = [top]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as listing:
            for entry in [entry for entry in listing if entry.is_dir(follow_symlinks=False)]:
                pending.append(Path(entry.path).rename(top / next(names)))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock, waiting for it; where directories cannot be locked (NFS), do without."""
    with _opened(directory.resolve()) as descriptor:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

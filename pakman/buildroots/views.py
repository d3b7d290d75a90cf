"""Views: a private copy of an Alpine root for one build, removed when its build is gone, however that ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pakman import command
from pakman.errors import BuildError

_GLOBAL_LOCK = ".lock"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class View:
    """One copy; as long as `lock` is held, no other run removes it."""

    folder: Path
    lock: IO[bytes]

    @property
    def root(self) -> Path:
        """What is / for the build."""
        return self.folder / "root"

    def remove(self) -> None:
        """Kill what still runs in it, remove it, let go of it."""
        kill_all(self.root)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.close()

    def keep(self, folder: Path) -> None:
        """Kill what still runs in it and move it to where it stays until its user removes it."""
        kill_all(self.root)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.rename(folder)
        self.lock.close()


def fresh(pristine: Path, cache: Path, env: Mapping[str, str]) -> View:
    """Return a new view of an unpacked root, below `cache`; remove the views of runs that were killed.

    Raises BuildError where there is no room for it.
    """
    try:
        # Resolved: the kernel names a process's root without links.
        view = _claim(cache.resolve() / "views")
    except OSError as error:
        raise BuildError(f"{cache} cannot be written: {error.strerror or error}", hint=_ROOM) from error
    copied = command.capture(
        [command.which("cp", env) or "cp", "-a", "--reflink=auto", str(pristine), str(view.root)], env={"LC_ALL": "C"}
    )
    if copied.status != 0:
        view.remove()
        reason = copied.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise BuildError(f"the Alpine root cannot be copied below {cache}: {reason}", hint=_ROOM)
    return view


_ROOM = "make room there, or give --cache-dir a directory on another disk"


def _claim(views: Path) -> View:
    views.mkdir(parents=True, exist_ok=True)
    with _locked(views / _GLOBAL_LOCK):
        _remove_stale(views)
        # Mode 700: nobody else on this machine gets at the setuid programs of an Alpine root.
        folder = Path(tempfile.mkdtemp(dir=views, prefix="view-"))
        lock = (folder / _LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return View(folder, lock)


def _remove_stale(views: Path) -> None:
    """Remove the views whose lock nobody holds: the kernel let go of it when their run ended."""
    for folder in views.glob("view-*"):
        with suppress(FileNotFoundError, BlockingIOError), (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kill_all(folder / "root")
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kill_all(root: Path) -> None:
    """Kill every process that was chrooted into `root`, and return when none is left.

    bubblewrap's processes are not found here, and need not be: they end with their PID namespace.
    """
    patience = time.monotonic() + 10
    while (found := processes_in(root)) and time.monotonic() < patience:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def processes_in(root: Path) -> list[int]:
    """Return the processes whose / is `root`."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208  (a name is enough, and there are many)
        if entry.isdigit():
            # A process that just ended, or a zombie, has no root.
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if os.readlink(f"/proc/{entry}/root") == str(root):  # noqa: PTH115  (the same)
                    found.append(int(entry))
    return found

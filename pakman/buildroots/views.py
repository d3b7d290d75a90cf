"""Views: a private copy of an Alpine root for one build, removed when its build is gone, however that ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pakman import command, scratch
from pakman.buildroots import rootfs
from pakman.errors import BuildError
from pakman.scratch import Scratch

_PREFIX = "view-"
_PATIENCE = 10.0
"""Seconds after which a process that does not end on SIGKILL (it waits for a broken disk) is let be."""


@dataclass(frozen=True, slots=True)
class View:
    """One copy, in a directory of mode 700: nobody else on this machine gets at the setuid programs of the root."""

    folder: Scratch

    @property
    def root(self) -> Path:
        """What is / for the build."""
        return self.folder.path / "root"

    def remove(self) -> None:
        """Kill what still runs in it and remove it."""
        kill_all(self.root)
        self.folder.remove()

    def keep(self, path: Path) -> None:
        """Kill what still runs in it and move it to where it stays until its user removes it."""
        kill_all(self.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.folder.path.rename(path)
        self.folder.release()


def fresh(pristine: Path, cache: Path, env: Mapping[str, str]) -> View:
    """Return a new view of an unpacked root, below `cache`; remove the views of runs that were killed.

    Raises BuildError where there is no room for it.
    """
    # Resolved: the kernel names a process's root without links.
    views = cache.resolve() / "views"
    try:
        views.mkdir(parents=True, exist_ok=True)
        view = View(scratch.make(views, _PREFIX, before_removal=lambda folder: kill_all(folder / "root")))
    except OSError as error:
        raise BuildError(f"{views} cannot be written: {error.strerror or error}", hint=rootfs.ROOM) from error
    try:
        copy = [command.which("cp", env) or "cp", "-a", "--reflink=auto", str(pristine), str(view.root)]
        copied = command.capture(copy, env={"LC_ALL": "C"})
        if copied.status != 0:
            reason = copied.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise BuildError(f"the Alpine root cannot be copied below {cache}: {reason}", hint=rootfs.ROOM)
    except BaseException:
        view.remove()
        raise
    return view


def kill_all(root: Path) -> None:
    """Kill every process that was chrooted into `root`, and return when none is left.

    bubblewrap's processes are not found here, and need not be: they end with their PID namespace.
    """
    patience = time.monotonic() + _PATIENCE
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
            # A process that just ended, or a zombie, has no root; a foreign one's is not ours to see.
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if os.readlink(f"/proc/{entry}/root") == str(root):  # noqa: PTH115  (the same)
                    found.append(int(entry))
    return found

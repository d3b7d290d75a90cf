"""Views: a private copy of an Alpine root for one build, removed when its build is gone, however that ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pakman import command, scratch
from pakman.buildroots import processes, rootfs
from pakman.errors import BuildError
from pakman.scratch import Scratch

_PREFIX = "view-"


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
    processes.kill(lambda: processes.in_root(root))


def inside(root: Path, directory: PurePosixPath) -> Path:
    """Return a directory of a root as a path of this machine.

    Raises BuildError where a part of it is a link: followed from here, it would lead out of the root.
    """
    path = root
    for part in directory.parts[1:]:
        path /= part
        if not os.path.lexists(path) or not stat.S_ISDIR(path.lstat().st_mode):
            raise BuildError(f"{directory} in the build root is not the directory that it has to be")
    return path

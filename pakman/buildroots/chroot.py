"""Entering a view with chroot(2), as root, where bubblewrap is refused: in a container without CAP_SYS_ADMIN.

There are no namespaces then, and no /proc in the view. What bubblewrap does is done here by two small processes of
pakman's own: one that gives up privileges and becomes the program, and one that watches pakman and, when it is gone,
kills what is left in the view.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from pakman.buildroots.capabilities import Capability
from pakman.errors import BuildError

# -I: nothing that the program's environment names (PYTHONPATH, PYTHONSTARTUP) runs outside the root.
_ENTER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("enter.py")))
_WATCH = (
    *(sys.executable, "-I", "-c"),
    "import sys; sys.path.insert(0, sys.argv[1]); from pakman.buildroots import chroot; chroot.watch(*sys.argv[2:])",
    str(Path(__file__).parents[2]),
)

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def entry(
    root: Path,
    argv: Sequence[str],
    *,
    ids: tuple[int, int],
    group: int | None = None,
    capabilities: Collection[Capability],
    cwd: PurePosixPath,
) -> list[str]:
    """Return the command that runs `argv` in `root` as this user and group, which keep only these capabilities.

    `group` is the other group that it has; without CAP_SETGID it, and what it starts, cannot be rid of that.
    """
    kept = sum(1 << capability for capability in capabilities)
    groups = (*ids, ids[1] if group is None else group)
    # env looks for the program in the PATH of the root, and knows the exit status for one that is not there.
    return [*_ENTER, str(root), *map(str, groups), str(kept), str(cwd), "/usr/bin/env", *argv]


def watcher(root: Path) -> list[str]:
    """Return the command that, when its stdin ends, kills every process in `root`."""
    return [*_WATCH, "root", str(root)]


def watcher_of_group(gid: int) -> list[str]:
    """Return the command that, when its stdin ends, kills every process that has a group."""
    return [*_WATCH, "group", str(gid)]


def make_devices(directory: Path) -> None:
    """Put what every program expects into an empty /dev; raise BuildError where that is refused."""
    try:
        for name, (major, minor) in _DEVICES.items():
            path = directory / name
            path.unlink(missing_ok=True)
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            path.chmod(0o666)
        for name, target in _LINKS.items():
            (directory / name).unlink(missing_ok=True)
            (directory / name).symlink_to(target)
        (directory / "shm").mkdir(exist_ok=True)
        (directory / "shm").chmod(0o1777)
        # Opened, because a file system that is mounted with nodev takes the node and refuses to use it.
        (directory / "null").write_bytes(b"x")
    except OSError as error:
        raise BuildError(
            f"the sandbox can neither be entered with bubblewrap nor have its own /dev: {error.strerror or error}",
            hint="let this machine run `bwrap`, or give --cache-dir a directory on a disk mounted without nodev",
        ) from error


def watch(task: str, whose: str) -> None:
    """Be the process that watches pakman: when its stdin ends, kill what is in a root, or what has a group."""
    from pakman.buildroots import processes

    sys.stdin.buffer.read()
    processes.kill(lambda: processes.in_root(Path(whose)) if task == "root" else processes.of_group(int(whose)))

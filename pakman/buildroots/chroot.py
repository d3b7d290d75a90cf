"""Entering a view with chroot(2), as root, where bubblewrap is refused: in a container without CAP_SYS_ADMIN.

There are no namespaces then, and no /proc in the view. What bubblewrap does is done here by the new process itself,
which gives up privileges before it becomes the program, and by a small process of pakman's own that watches pakman and,
when it is gone, kills what is left in the view.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NoReturn

from pakman import command
from pakman.buildroots import processes
from pakman.buildroots.capabilities import Capability
from pakman.buildroots.verbs import Entry
from pakman.errors import BuildError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

# By its path, and without what a site may add to Python: it needs nothing of either. -I: nor of the environment.
_WATCH = (sys.executable, "-I", "-S", processes.__file__)

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def entry(
    root: Path,
    argv: Sequence[str],
    *,
    ids: tuple[int, int],
    group: int | None = None,
    capabilities: Collection[Capability],
    env: Mapping[str, str],
    cwd: PurePosixPath,
) -> Entry:
    """Return how `argv` runs in `root` as this user and group, which keep only these capabilities.

    `group` is the other group that it has; without CAP_SETGID it, and what it starts, cannot be rid of that.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = ids
    kept = frozenset(map(int, capabilities))

    def enter(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
        try:
            _keep_streams_only()
            os.chroot(root)
            os.chdir(cwd)
            for number in range(64):
                # The kernel says EINVAL for the numbers that it does not know.
                if number not in kept:
                    libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
            os.setgroups([gid if group is None else group])
            os.setgid(gid)
            os.setuid(uid)
            if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "no_new_privs is refused")
            # After the change of user, which resets it.
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            command.replace(argv, env=env)
        except OSError as error:
            # What is in the root is its maker's, who may be another machine: this is no error of ours.
            os.write(2, f"the root cannot be entered: {error.strerror}\n".encode())
            os._exit(1)

    # env looks for the program in the PATH of the root, and knows the exit status for one that is not there.
    return Entry(["/usr/bin/env", *argv], {**env, "PWD": str(cwd)}, enter)


def _keep_streams_only() -> None:
    """Leave nothing open but stdin, stdout and stderr: pakman's caller may have handed it more."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        # That of the listing is closed by now.
        with suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)  # noqa: FBT003


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

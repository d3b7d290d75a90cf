"""Entering a view with bubblewrap: mount, PID, IPC and UTS namespaces of its own; of the host at most the network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from pakman.buildroots import BUILD_USER, User
from pakman.buildroots.capabilities import Capability

_NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
# A build must not find out what the machine is called, and put it into a package.
_HOST_NAME = ("--hostname", "pakman")
# The kernel ends bubblewrap with pakman, even by SIGKILL, and with bubblewrap the whole PID namespace.
_LIFE = ("--die-with-parent",)
# In place of --new-session, with which the first process of the namespace would leave bubblewrap's process group: it
# asks to end with bubblewrap only after the program has been started, and so lived on where pakman ended bubblewrap
# in between. Now what ends that group ends both, and only the program has a session of its own.
_SESSION = "/usr/bin/setsid"
_MOUNTS = ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108  (not ours)


def entry(
    bubblewrap: str,
    root: Path,
    argv: Sequence[str],
    *,
    user: User,
    capabilities: Collection[Capability],
    cwd: PurePosixPath,
    is_on_network: bool = True,
) -> list[str]:
    """Return the command that runs `argv` in `root`; bubblewrap itself sees to no_new_privs.

    Without the network it has a loopback interface of its own.
    """
    program = ["/usr/bin/env", *argv]
    # Root needs no capability to write into the kernel's settings (/proc/sys/kernel/core_pattern names a program that
    # the kernel starts, outside of every namespace), and bubblewrap leaves them writable where it looks read-only.
    settings = ["--remount-ro", "/proc"]
    if user == "build":
        # The root's own su: with -p it keeps the environment, and it becomes the program (-s) without a shell between.
        # These two it gives up on the way; no_new_privs keeps every program from getting them back.
        capabilities = {Capability.CAP_SETGID, Capability.CAP_SETUID}
        settings = []
        program = ["/bin/su", "-p", "-s", program[0], "--", BUILD_USER, *program[1:]]
    allowed = [word for capability in sorted(capabilities) for word in ("--cap-add", capability.name)]
    return [
        bubblewrap,
        *(*_NAMESPACES, *_HOST_NAME, *_LIFE),
        *([] if is_on_network else ["--unshare-net"]),
        *("--bind", str(root), "/"),
        *(*_MOUNTS, *settings),
        *("--cap-drop", "ALL", *allowed),
        *("--chdir", str(cwd)),
        *("--", _SESSION, *program),
    ]

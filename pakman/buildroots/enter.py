"""The small process that gives up privileges and becomes a program of the build, where bubblewrap is refused.

It is run by its path, once for each program: it imports nothing of pakman's, and of Python's own what takes no time.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38


def main(root: str, uid: str, gid: str, group: str, kept: str, cwd: str, *program: str) -> None:
    """Become `program` in `root` as this user, with two groups and the capabilities of the bit mask `kept`."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Not os.environ: Python adds LC_CTYPE to it.
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123  (pathlib takes as long as all the rest)
        given = file.read().split(b"\0")[:-1]
    os.chroot(root)
    os.chdir(cwd)
    for number in range(64):
        # The kernel says EINVAL for the numbers that it does not know.
        if not int(kept) >> number & 1:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    os.setgroups([int(group)])
    os.setgid(int(gid))
    os.setuid(int(uid))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs is refused")
    # After the change of user, which resets it.
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    env = dict(variable.split(b"=", 1) for variable in given)
    os.execve(program[0], program, {**env, b"PWD": os.fsencode(cwd)})  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])

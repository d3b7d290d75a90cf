"""The action's door: GitHub's INPUT_* become one printed pakman command line, which is run.

Two processes: the first (PID 1 in the action's container) does nothing but pass on signals, reap what others leave
behind and, whatever becomes of the second, give the runner's user what root made in the workspace. The second is
pakman.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def main() -> int:
    """Run pakman as the workflow's inputs say; return its exit status, 128 + n where signal n killed it."""
    _close_to_others()
    # A signal waits until there is somebody to pass it on to.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _pakman()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = _status(child)
    if os.getpid() == 1:
        _end_the_rest()
    if status < 0:
        _end_for_it(-status)
    _hand_over(os.environ.get("GITHUB_WORKSPACE", ""))
    return status if status >= 0 else 128 - status


def _close_to_others() -> None:
    """Let no other process read this one's memory and environment, which hold secrets; not even one of root's.

    What a build does as root (its package script, the scripts of Alpine's packages) is root of the same container.
    """
    import ctypes

    # prctl(2): PR_SET_DUMPABLE is 4; see also ptrace(2), "Ptrace access mode checking".
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def _pakman() -> NoReturn:
    """Turn the inputs into arguments and an environment, and run pakman with them."""
    from pwd import getpwuid

    from pakman import cli, inputs

    given, masks = inputs.given(os.environ), inputs.masks(os.environ)
    env = inputs.environment(os.environ, home=getpwuid(os.geteuid()).pw_dir)
    # boto3 and others read it themselves.
    os.environ.clear()
    os.environ.update(env)

    def arguments() -> list[str]:
        # On stdout, like all that follows: of two streams the runner may read the other one first.
        print(masks, end="", flush=True)
        argv = inputs.command_line(given)
        os.chdir(inputs.workspace(given, env))
        print(inputs.shown(argv))
        if unused := inputs.unused(given):
            print(f"not used by `pakman {argv[0]}`: {', '.join(unused)}")
        sys.stdout.flush()
        return argv

    cli.program(arguments)


def _status(child: int) -> int:
    """Wait for the end of a process, reaping every other one, and return its exit status, -n for signal n."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


def _end_the_rest() -> None:
    """Kill all that is left in the container: it would go on writing."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _end_for_it(number: int) -> None:
    """Do what a pakman does at its end that was killed before: say so, and remove what it was at work on."""
    from pakman import build, github, inputs, scratch
    from pakman.errors import PakmanError

    hint = "is there enough memory? the kernel kills what takes too much" if number == signal.SIGKILL else ""
    error = PakmanError(f"pakman was killed by {signal.Signals(number).name}", hint=hint)
    print(github.annotation("error", f"{error.message}\n{hint}".rstrip(), title="pakman"), flush=True)
    with suppress(OSError, PakmanError):
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            github.append_summary(Path(summary), github.summary([], facts={}, install=[], error=error))
    with suppress(OSError, PakmanError):
        scratch.sweep(inputs.output(inputs.given(os.environ), os.environ), build.SCRATCH)


def _hand_over(workspace: str) -> None:
    """Give what belongs to root in the workspace to whoever the workspace belongs to; no link is followed."""
    if not workspace.startswith("/"):
        return
    with suppress(OSError):
        top = Path(workspace).stat()
        if top.st_uid != 0:
            _give(workspace, top.st_uid, top.st_gid)


def _give(directory: str, uid: int, gid: int) -> None:
    pending = [directory]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as listing:
            for entry in listing:
                with suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if found.st_uid == 0:
                        os.chown(entry.path, uid, gid, follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        pending.append(entry.path)


if __name__ == "__main__":
    sys.exit(main())

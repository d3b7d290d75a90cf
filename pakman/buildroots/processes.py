"""The processes of a build where no PID namespace ends them: who they are, and their end.

This file is also a program, run by its path: `processes.py root DIR` and `processes.py group GID` watch pakman. So it
imports nothing of pakman's, and of Python's own what takes no time.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False  # typing takes longer to import than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PATIENCE = 10.0
"""Seconds after which a process that does not end on SIGKILL (it waits for a broken disk) is let be."""


def kill(find: Callable[[], list[int]]) -> None:
    """Kill every process that is found, and return when none is any more."""
    patience = time.monotonic() + _PATIENCE
    while (found := find()) and time.monotonic() < patience:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def in_root(root: Path | str) -> list[int]:
    """Return the processes whose / is `root`."""
    found = []
    for pid in _all():
        # A process that just ended, or a zombie, has no root; a foreign one's is not ours to see.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.readlink(f"/proc/{pid}/root") == str(root):  # noqa: PTH115  (there are many)
                found.append(pid)
    return found


def of_group(gid: int) -> list[int]:
    """Return the processes that have a group, as their first or as another one.

    Those in a container on this machine are not among them: its groups are numbered on their own.
    """
    wanted = str(gid).encode()
    found = []
    for pid in _all():
        with suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123
                status = file.read()
            fields = {name: value.split() for name, _, value in (line.partition(b":") for line in status.splitlines())}
            # It has a number in each PID namespace that it is in, ours and those below.
            is_here = len(fields[b"NSpid"]) == 1
            # A zombie's parent decides how long its number stays.
            if is_here and wanted in fields[b"Gid"] + fields[b"Groups"] and fields[b"State"][0] != b"Z":
                found.append(pid)
    return found


def _all() -> Iterator[int]:
    # The names are enough, and there are many.
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _watch(what: str, whose: str) -> None:
    """Wait until stdin ends, because pakman did; then kill what is in a root, or what has a group."""
    sys.stdin.buffer.read()
    kill(lambda: in_root(whose) if what == "root" else of_group(int(whose)))


if __name__ == "__main__":
    _watch(*sys.argv[1:])

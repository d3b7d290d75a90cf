"""The processes of a build where no PID namespace ends them: who they are, and their end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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


def in_root(root: Path) -> list[int]:
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
            status = Path(f"/proc/{pid}/status").read_bytes()
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

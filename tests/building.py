"""What tests of the build have in common: a cache of their own, an application, what is left of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def private_cache(folder: Path, pristine: Path) -> Path:
    """Return a cache directory whose unpacked roots are everybody's and whose views are the test's own."""
    folder.mkdir()
    (folder / "roots").symlink_to(pristine.parent)
    return folder


def processes(*command_line: str) -> list[int]:
    """Return the processes of this machine with exactly this command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == "".join(f"{word}\0" for word in command_line).encode():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def must_go(find: Callable[[], object]) -> None:
    """Wait until nothing is found any more: a killed process takes its moment to go."""
    deadline = time.monotonic() + 10
    while find() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not find()

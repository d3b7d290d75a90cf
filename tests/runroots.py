"""Every kind of run root, opened the same way: for the contract that they share, and for a process that is killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pakman.buildroots import engine
from pakman.runroots import RunRoot
from pakman.runroots.docker import Docker
from pakman.runroots.sandbox import Sandbox


def opened(kind: str, cache: Path, image: str = "") -> RunRoot:
    """Return a run root of a kind, to be entered; `image` for docker."""
    return Docker(engine.must_find(os.environ), image) if kind == "docker" else Sandbox(None, cache, os.environ)


def nap(kind: str, cache: Path, image: str, seconds: str) -> None:
    """Start two processes in a run root, say "started" and the container's name, and wait: what a test kills."""
    with opened(kind, cache, image) as root:
        root.run(f"setsid sleep {seconds} >/dev/null 2>&1 &", 5)
        print("started", getattr(root, "name", ""), flush=True)
        root.run(f"sleep {seconds}", 60)


if __name__ == "__main__":
    nap(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])

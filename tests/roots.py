"""Every kind of build root, opened the same way: for the contract that they share, and for a process that is killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pakman.buildroots import BuildRoot, engine
from pakman.buildroots.docker import Docker
from pakman.buildroots.native import Native
from pakman.buildroots.sandbox import Sandbox

NASTY = [
    "", " ", "a b", "'", '"', "\\", "$HOME", "$(touch x)", "`touch x`", "*", "?[a]", "~", "-n", "--", "-c", "a\nb",
    "\n", "\t", ";", "&", "|", ">x", "<x", "#", "!", "{a,b}", "ünï©ode", "\udcff", "1\udcff1", "%s", "a=b",
    "x" * 50_000,
]  # fmt: skip
"""Arguments and values that go wrong where somebody does not quote."""


def opened(kind: str, cache: Path, image: str = "") -> BuildRoot:
    """Return a build root of a kind, to be entered; `image` for docker."""
    if kind == "docker":
        return Docker(engine.must_find(os.environ), image, cache)
    if kind == "native":
        return Native(cache)
    return Sandbox(None, cache, os.environ, confinement="bubblewrap" if kind == "bubblewrap" else "chroot")


def nap(kind: str, cache: Path, image: str, seconds: str) -> None:
    """Start three processes in a build root, say "started" and the container's name, and wait: what a test kills."""
    script = f"setsid sleep {seconds} >/dev/null 2>&1 & sleep {seconds} & echo started; sleep {seconds}"
    with opened(kind, cache, image) as root:
        root.call(
            ["sh", "-c", script],
            user="build",
            env={"PATH": "/bin:/usr/bin"},
            on_line=lambda line: print(line, getattr(root, "name", ""), flush=True),
        )


if __name__ == "__main__":
    nap(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])

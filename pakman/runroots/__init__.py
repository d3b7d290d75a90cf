"""Run roots: a clean Alpine root in which packages are installed and services live on from one script to the next.

A run root is a context manager, as a build root is. Entering it gives a fresh one that nobody else sees; leaving it
kills every process in it and removes it, whatever happened inside. It has a network of its own, which leads nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import IO, Protocol, Self

from pakman.errors import PackageTestError


class UntestableError(PackageTestError):
    """There is no run root to test in here, or not what it takes: nothing that is wrong with the package."""


class RootEndedError(PackageTestError):
    """What takes the scripts in a run root is gone, or does not answer any more."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a script."""

    status: int | None
    """Its exit status, as a shell has it; None where its time was up, and it was ended."""
    lines: tuple[str, ...]
    """The last lines that it wrote, stdout and stderr as one."""
    seconds: float


class RunRoot(Protocol):
    """An Alpine root in which OpenRC takes the machine for booted."""

    release: str
    """The root's /etc/alpine-release, e.g. 3.23.6."""
    arch: str
    """apk's name of the architecture: x86_64, aarch64, …"""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath) -> None:
        """Unpack a tar stream into a directory that is there, as root; raise BuildError where there is no room."""

    def run(self, script: str, seconds: float) -> Ran:
        """Run a script with sh as root, without input; where it takes longer than `seconds`, end its whole session.

        What it starts in a session of its own, as a service's supervisor is, lives on until the root is left. Raises
        RootEndedError.
        """

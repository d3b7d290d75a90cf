"""Build roots: an Alpine root in which a build runs, one module per way to have one.

A build root is a context manager. Entering it gives a fresh view that no other build sees; leaving it kills every
process in it and removes the view, whatever happened inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Literal, Protocol, Self

AddPackages = Callable[[Sequence[str], Callable[[str], None]], None]
"""Adds packages to a root, as BuildRoot.add_packages does."""

User = Literal["root", "build"]
"""Who runs a command: root, with just what packing needs, or the unprivileged user that a build runs as."""

BUILD_USER = "pakman-build"
"""The unprivileged user's name inside a build root; no application's, because those become users, too."""

TOP = PurePosixPath("/")
HOME = PurePosixPath(f"/home/{BUILD_USER}")
"""The build user's."""


class BuildRoot(Protocol):
    """An Alpine root with the verbs that a builder needs."""

    release: str
    """The root's /etc/alpine-release, e.g. 3.23.6."""
    arch: str
    """apk's name of the architecture: x86_64, aarch64, …"""
    has_abuild: bool
    """Whether it had abuild when it was entered."""
    confines_root: bool
    """Whether root in it gets at nothing of this machine; if not, it must not touch what a build has written."""

    @property
    def repositories(self) -> Sequence[tuple[str, ...]]:
        """The sets of repositories that are asked; once packages have been added, the first is the one that serves."""

    @property
    def build_user_id(self) -> int:
        """The uid of the unprivileged user in the root."""

    @property
    def build_group_id(self) -> int:
        """The gid of the unprivileged user in the root."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def call(
        self,
        argv: Sequence[str],
        *,
        user: User,
        env: Mapping[str, str],
        cwd: PurePosixPath = TOP,
        on_line: Callable[[str], None],
    ) -> int:
        """Run a program in the root with exactly `env` and PWD, hand over each line it writes, return its status.

        127: there is no such program; 128 + n: signal n killed it. No process is left when this returns.
        """

    def add_packages(self, words: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Add packages with the root's own apk, as root; raise BuildError naming the package, where from, a way out."""

    def add_installed(self, words: Sequence[str], on_line: Callable[[str], None]) -> bool:
        """Add packages as `add_packages` does, where the root has them all already; say whether it has."""

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath, *, user: User) -> None:
        """Unpack a tar stream into a directory, which is made, as this user."""

    def copy_out(self, directory: PurePosixPath) -> IO[bytes]:
        """Return a tar stream of a directory's content; raise BuildError where it cannot be read."""

    def tree(self, directory: PurePosixPath) -> AbstractContextManager[Path]:
        """Yield a directory as a tree on this machine: owners are the root's numbers, links and modes are as they are.

        Raises BuildError where a part of the path is a link or no directory: the build may have put it there.
        """

    def keep(self, directory: PurePosixPath) -> str:
        """Have a directory outlive the root; return, for its user to read, where it is then."""

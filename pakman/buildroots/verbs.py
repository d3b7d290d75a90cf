"""The verbs of every build root, in terms of the one thing in which they differ: how a program gets into it."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from pakman import command
from pakman.buildroots import BUILD_USER, TOP, User, apk_add
from pakman.buildroots.capabilities import BUILD, INSTALL, PACKAGE, Capability
from pakman.errors import BuildError

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
"""For what pakman itself runs in a root."""

_SHELL = ("/bin/sh", "-ec")
_MAKE = 'mkdir -p "$1"; chown "$2" "$1"'
_UNPACK = 'exec tar -x -f - -C "$1"'


@dataclass(frozen=True, slots=True)
class Entry:
    """How a program gets into a root: a command of this machine, or a process that enters the root by itself."""

    argv: Sequence[str]
    env: Mapping[str, str]
    enter: command.Enter | None = None


class Verbs(ABC):
    """What BuildRoot promises, but for how the root is entered and left.

    What a root says of itself, and `_ids`, are there once it is set up.
    """

    release: str
    arch: str
    has_abuild: bool
    confines_root = True
    _room: str
    """Where room may be lacking, as its user knows it."""

    def __init__(self, repositories: Sequence[tuple[str, ...]], on_warning: Callable[[str], None]) -> None:
        self._repositories = repositories
        self._on_warning = on_warning
        self._ids = (0, 0)

    @abstractmethod
    def _entry(
        self,
        argv: Sequence[str],
        user: User,
        capabilities: Collection[Capability],
        env: Mapping[str, str],
        cwd: PurePosixPath,
        *,
        is_tar: bool = False,
    ) -> Entry:
        """Return how `argv` gets into the root, to run there with `env`.

        `is_tar`: its stdin, or its stdout, is no text.
        """

    @abstractmethod
    def _end(self) -> None:
        """Kill what a program has left in the root, and return when it is gone."""

    @property
    def repositories(self) -> Sequence[tuple[str, ...]]:
        """The sets of repositories that are asked; once packages have been added, the first is the one that serves."""
        return self._repositories

    @property
    def build_user_id(self) -> int:
        """The uid of the unprivileged user."""
        return self._ids[0]

    @property
    def build_group_id(self) -> int:
        """The gid of the unprivileged user."""
        return self._ids[1]

    def call(
        self,
        argv: Sequence[str],
        *,
        user: User,
        env: Mapping[str, str],
        cwd: PurePosixPath = TOP,
        on_line: Callable[[str], None],
    ) -> int:
        """Run a program in the root; see BuildRoot."""
        return self._stream(argv, user, _capabilities(user), env, cwd, on_line)

    def add_packages(self, words: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Add packages with the root's own apk; see BuildRoot."""
        self._repositories = apk_add.add(
            words,
            self._apk,
            on_line,
            release=self.release,
            repositories=self._repositories,
            on_warning=self._on_warning,
        )

    def add_installed(self, words: Sequence[str], on_line: Callable[[str], None]) -> bool:
        """Add packages that the root has already; see BuildRoot."""
        return apk_add.add_installed(words, self._apk, on_line)

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath, *, user: User) -> None:
        """Unpack a tar stream into a directory, which is made, as this user."""
        said: list[str] = []
        words = ("sh", str(directory), BUILD_USER if user == "build" else "root")
        status, script = 0, f"{_MAKE}; {_UNPACK}"
        if user == "build":  # who may not make a directory everywhere
            status, script = self._stream([*_SHELL, _MAKE, *words], "root", PACKAGE, ENV, TOP, said.append), _UNPACK
        if status == 0:
            argv = [*_SHELL, script, *words]
            with command.fed(lambda pipe: shutil.copyfileobj(tar, pipe, 1 << 20)) as stdin:
                status = self._stream(argv, user, _capabilities(user), ENV, TOP, said.append, stdin)
        if status != 0:
            reason = "".join(said[-1:]) or command.how_it_ended(status)
            raise BuildError(
                f"{directory} cannot be filled in the build root: {reason}", hint=f"is there room left {self._room}?"
            )

    def copy_out(self, directory: PurePosixPath) -> IO[bytes]:
        """Return a tar stream of a directory's content."""
        pack = ["tar", "-c", "-f", "-", "-C", str(directory), "."]
        return self._saved(self._entry(pack, "root", PACKAGE, ENV, TOP, is_tar=True), directory)

    def _saved(self, entry: Entry, directory: PurePosixPath) -> IO[bytes]:
        """Return what a command wrote; raise BuildError where it failed to read a directory of the root."""
        stream = tempfile.TemporaryFile()  # noqa: SIM115  (handed over open)
        done = command.save(entry.argv, env=entry.env, stdout=stream, enter=entry.enter)
        if done.status != 0:
            stream.close()
            raise BuildError(f"{directory} cannot be read from the build root: {command.why_it_failed(done)}")
        stream.seek(0)
        return stream

    def _apk(self, argv: Sequence[str]) -> tuple[int, list[str]]:
        said: list[str] = []
        return self._stream(argv, "root", INSTALL, ENV, TOP, said.append), said

    def _stream(
        self,
        argv: Sequence[str],
        user: User,
        capabilities: Collection[Capability],
        env: Mapping[str, str],
        cwd: PurePosixPath,
        on_line: Callable[[str], None],
        stdin: IO[bytes] | None = None,
    ) -> int:
        entry = self._entry(argv, user, capabilities, env, cwd, is_tar=stdin is not None)
        try:
            status = command.stream(entry.argv, env=entry.env, on_line=on_line, stdin=stdin, enter=entry.enter)
            # As a shell has it.
            return status if status >= 0 else 128 - status
        finally:
            self._end()


def _capabilities(user: User) -> Collection[Capability]:
    return PACKAGE if user == "root" else BUILD

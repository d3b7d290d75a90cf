"""A run root on this machine: a fresh view of the sandbox's Alpine root, entered with bubblewrap."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from pakman import command
from pakman.buildroots import TOP, bubblewrap, rootfs, views
from pakman.buildroots.capabilities import PACKAGE, SERVICES, Capability
from pakman.errors import BuildError, UsageError
from pakman.runroots import Ran, UntestableError
from pakman.runroots.booted import booted
from pakman.runroots.shell import ENV, SCRIPT, Shell

_RC_CONF = 'unicode="YES"\nrc_tty_number=12\n'
"""What holds in Alpine's own: the wheel's image has one that is made for its virtual machine."""


class Sandbox:
    """A run root in a sandbox; `archive` and `cache` as in rootfs.unpacked, `env` only says where programs are."""

    release: str
    arch: str

    def __init__(self, archive: Path | None, cache: Path, env: Mapping[str, str]) -> None:
        self._archive = archive
        self._cache = cache
        self._env = env

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise UsageError("the sandbox takes root", hint="run pakman as root (sudo)")
        program = command.which("bwrap", self._env)
        if program is None:
            raise UntestableError(
                "there is no bubblewrap, without which services cannot run in a sandbox",
                hint="run `apt-get install bubblewrap`, or have a Docker engine run",
            )
        self._program = program
        pristine = rootfs.unpacked(self._archive, self._cache, self._env)
        with ExitStack() as stack:
            view = views.fresh(pristine, self._cache, self._env)
            stack.callback(view.remove)
            self._root = view.root
            self._must_work()
            if self._archive is None:
                (views.inside(self._root, PurePosixPath("/etc")) / "rc.conf").write_text(_RC_CONF)
            argv = self._entry(["/bin/sh", "-c", SCRIPT], SERVICES)
            process = stack.enter_context(command.started(argv, env=ENV, stdin=subprocess.PIPE))
            self._shell = Shell(process)
            self.release, self.arch = booted(
                self._shell, hint="give --rootfs an Alpine minirootfs for this machine's architecture"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath) -> None:
        """Unpack a tar stream, from within: what is in the root may be a link by now; see RunRoot."""
        said: list[str] = []
        argv = self._entry(["tar", "-x", "-f", "-", "-C", str(directory)], PACKAGE)
        with command.fed(lambda pipe: shutil.copyfileobj(tar, pipe, 1 << 20)) as stdin:
            status = command.stream(argv, env=ENV, on_line=said.append, stdin=stdin)
        if status != 0:
            reason = "".join(said[-1:]) or command.how_it_ended(status)
            raise BuildError(
                f"the run root cannot be filled: {reason}", hint=f"is there room left below {self._cache}?"
            )

    def run(self, script: str, seconds: float) -> Ran:
        """Run a script; see RunRoot."""
        return self._shell.run(script, seconds)

    def _entry(self, argv: Sequence[str], capabilities: Collection[Capability]) -> list[str]:
        """Return the command that runs `argv` in the root, as root, without a network."""
        return bubblewrap.entry(
            self._program, self._root, argv, user="root", capabilities=capabilities, cwd=TOP, is_on_network=False
        )

    def _must_work(self) -> None:
        """Try bubblewrap: a container refuses its namespaces."""
        done = command.capture(self._entry(["true"], SERVICES), env=ENV)
        if done.status != 0:
            raise UntestableError(
                f"this machine refuses bubblewrap, without which services cannot run: {command.why_it_failed(done)}",
                hint="have a Docker engine run; in a container, give it the engine's socket",
            )

"""A run root in a container of the stack's run image, in a Docker or Podman engine that may be anywhere."""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from pathlib import PurePosixPath
from types import TracebackType
from typing import IO, Self

from pakman import command
from pakman.buildroots import container
from pakman.buildroots.capabilities import SERVICES
from pakman.buildroots.engine import Engine
from pakman.errors import BuildError
from pakman.runroots import Ran, RootEndedError
from pakman.runroots.booted import booted
from pakman.runroots.shell import ENV, SCRIPT, Shell


class Docker:
    """A run root in a container of `image`, which is there already."""

    release: str
    arch: str
    name: str
    """The container's."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        self.name = f"pakman-{secrets.token_hex(8)}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            process = stack.enter_context(
                container.started(
                    self._engine,
                    self._image,
                    self.name,
                    SCRIPT,
                    env=ENV,
                    capabilities=SERVICES,
                    options=("--network", "none"),
                )
            )
            self._shell = Shell(process)
            try:
                self.release, self.arch = booted(self._shell, hint=container.is_alpine(self._image))
            except RootEndedError as error:
                said = error.message.rpartition(": ")[2:]
                container.must_have_started(self._engine, self._image, process.poll() or 0, said)
                raise BuildError(error.message, hint=container.is_alpine(self._image)) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath) -> None:
        """Have the engine unpack a tar stream; see RunRoot."""
        said: list[str] = []
        order = self._engine.order("cp", "-", f"{self.name}:{directory}")
        with command.fed(lambda pipe: shutil.copyfileobj(tar, pipe, 1 << 20)) as stdin:
            status = command.stream(order, env=self._engine.env, on_line=said.append, stdin=stdin)
        if status != 0:
            reason = "".join(said[-1:]) or command.how_it_ended(status)
            raise BuildError(
                f"the run root cannot be filled: {reason}",
                hint=f"is there room left where {self._engine.name} keeps its containers?",
            )

    def run(self, script: str, seconds: float) -> Ran:
        """Run a script; see RunRoot."""
        return self._shell.run(script, seconds)

"""A container engine, Docker's or Podman's, by its command line; and the image to build in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pakman import command
from pakman.errors import BuildError, UsageError

_PROGRAMS = ("docker", "podman")
_PATIENCE = 5.0
"""Seconds after which an engine that says nothing (its daemon hangs, its machine is away) is taken for absent."""
_TOLD = ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
_TOLD_PREFIXES = ("DOCKER_", "CONTAINER_", "CONTAINERS_")


@dataclass(frozen=True, slots=True)
class Engine:
    """The program that talks to an engine that answers, and the environment it gets: where the engine is, no more."""

    name: str
    program: str
    env: Mapping[str, str]

    def order(self, *words: str) -> list[str]:
        """Return the command line that gives the engine an order."""
        return [self.program, *words]

    def ask(self, *words: str, timeout: float | None = None) -> command.Completed:
        """Give it an order with a short answer."""
        return command.capture(self.order(*words), env=self.env, timeout=timeout)


def find(env: Mapping[str, str]) -> Engine | None:
    """Return the engine that answers, Docker first; None where none does. It takes a few seconds at most."""
    told = {name: value for name, value in env.items() if name in _TOLD or name.startswith(_TOLD_PREFIXES)}
    for name in _PROGRAMS:
        program = command.which(name, env)
        if program is not None and _answers(engine := Engine(name, program, told)):
            return engine
    return None


def must_find(env: Mapping[str, str], *, flag: str = "--build-root docker") -> Engine:
    """Return the engine that answers; raise UsageError where none does: `flag` is what asks for one."""
    engine = find(env)
    if engine is not None:
        return engine
    installed = [name for name in _PROGRAMS if command.which(name, env) is not None]
    if not installed:
        raise UsageError(
            f"{flag} needs a container engine: neither docker nor podman is installed",
            hint=f"install one of them, or leave {flag.partition(' ')[0]} out",
        )
    raise UsageError(
        f"{flag} needs a container engine, and none answers `{installed[0]} version`",
        hint="start it; is this user in the group docker, and does DOCKER_HOST, if set, name the right one?",
    )


def _answers(engine: Engine) -> bool:
    # Podman has no server to ask of where it runs the containers itself.
    field = "{{.Server.Version}}" if engine.name == "docker" else "{{.Client.Version}}"
    try:
        return engine.ask("version", "--format", field, timeout=_PATIENCE).status == 0
    except subprocess.TimeoutExpired:
        return False


def image(
    engine: Engine, candidates: Sequence[str], on_warning: Callable[[str], None], *, purpose: str = "build"
) -> str:
    """Return the first image that is there or can be pulled; `on_warning` hears of those that cannot.

    `purpose` is a verb: what the image is for, and a part of a flag's name.

    Not one that is there before one that has to be pulled: they need not be alike, and the user's own come first.
    Raises BuildError naming what was tried and why it failed.
    """
    failures: list[str] = []
    for name in candidates:
        if engine.ask("image", "inspect", "--format", "x", name).status == 0:
            return name
        pulled = engine.ask("pull", "--quiet", name)
        if pulled.status == 0:
            return name
        failures.append(f"{name} ({last_line(pulled)})")
        if name != candidates[-1]:
            on_warning(f"the image {failures[-1]} cannot be pulled: the next one is tried")
    raise BuildError(
        f"no image to {purpose} in can be pulled: {'; '.join(failures) or 'the stack has none'}",
        hint=f"check the network, or {purpose} in an Alpine root of your own: "
        f"--{purpose}-root sandbox --rootfs FILE.tar.gz",
    )


def last_line(done: command.Completed) -> str:
    """Return why an order failed: the last line that the engine wrote."""
    reason = command.why_it_failed(done)
    return reason.removeprefix("Error response from daemon: ").removeprefix("Error: ")[:500]

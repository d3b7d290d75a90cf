"""A container whose first process is a shell that takes orders on its stdin, a pipe that this process holds.

When the pipe ends, because pakman ends (by SIGKILL, too), the shell has to end, and with it the container, which the
engine then removes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from pakman import command
from pakman.buildroots.capabilities import Capability
from pakman.buildroots.engine import Engine
from pakman.errors import BuildError

_NOT_STARTED = (125, 126, 127)
"""Exit statuses where there is no container, where its program is none, and where its program is not there."""
_PATIENCE = 20.0
"""Seconds that a container has to go by itself."""


@contextmanager
def started(
    engine: Engine,
    image: str,
    name: str,
    script: str,
    *,
    env: Mapping[str, str],
    capabilities: Collection[Capability],
    options: Sequence[str] = (),
) -> Iterator[command.Process]:
    """Yield what talks to a container of `image`, which is there already, in which sh runs `script` with exactly `env`.

    Its stdin and stdout are the shell's. `capabilities` are those of root in it; `options` are further ones of
    `docker run`. The container is gone when this is left.
    """
    added = [word for each in sorted(capabilities) for word in ("--cap-add", each.name)]
    argv = engine.order(
        *("run", "--interactive", "--rm", "--name", name, "--label", "pakman", "--pull", "never"),
        *("--cap-drop", "ALL", *added, *options),
        *("--log-driver", "none"),
        # What runs in it must not find out what the machine is called, and put it into a package.
        *("--hostname", "pakman", "--user", "0:0", "--workdir", "/", "--entrypoint", "/usr/bin/env", image),
        *("-i", *assignments(env), "/bin/sh", "-c", script),
    )
    with command.started(argv, env=engine.env, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            _let_go(process)
            # Mostly there is none any more.
            if process.returncode != 0:
                engine.ask("rm", "--force", name)


def assignments(env: Mapping[str, str]) -> list[str]:
    """Return an environment as the words of env(1)."""
    return [f"{name}={value}" for name, value in env.items()]


def is_alpine(image: str) -> str:
    """Return the question to ask where an image does not work."""
    return f"is {image} an image of Alpine for this machine?"


def must_have_started(engine: Engine, image: str, status: int, said: Sequence[str]) -> None:
    """Raise BuildError where a container's exit status says that there was none, with the reason in what was said."""
    if status not in _NOT_STARTED:
        return
    # The engine's last line is about its --help.
    reason = next((line for line in said if "rror" in line), "".join(said[-1:]))
    raise BuildError(
        f"a container of {image} cannot be started: {reason.removeprefix(f'{engine.name}: ')}",
        hint=f"{is_alpine(image)} does `{engine.name} run --rm {image} true` work?",
    )


def _let_go(process: command.Process) -> None:
    """End the container, and wait until the engine has removed it."""
    orders, _ = command.pipes(process)
    with suppress(BrokenPipeError):
        orders.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)

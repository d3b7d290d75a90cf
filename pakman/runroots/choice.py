"""Which run root a test gets: the one that was asked for, or the best that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from pakman.buildroots import BuildRoot, engine
from pakman.buildroots import docker as build_docker
from pakman.buildroots import sandbox as build_sandbox
from pakman.buildroots.choice import is_release_of, sandbox_release
from pakman.errors import BuildError, UsageError
from pakman.runroots import RunRoot, UntestableError
from pakman.runroots.docker import Docker
from pakman.runroots.sandbox import Sandbox
from pakman.stack import Stack

Kind = Literal["auto", "docker", "sandbox"]
"""What a user may ask for."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Place:
    """Where run roots of one kind are made, and roots of the same content that are on this machine's network."""

    name: str
    """For a sentence: `the sandbox`, `a container of IMAGE`."""
    run_root: Callable[[], RunRoot]
    download_root: Callable[[], BuildRoot]
    otherwise: Place | None = None
    """Where a test may run instead, should this not have what it takes: nobody has asked for this one."""


def place(
    kind: Kind,
    stack: Stack,
    *,
    archive: Path | None,
    cache: Path,
    env: Mapping[str, str],
    on_warning: Callable[[str], None],
) -> Place:
    """Return where packages for `stack` can be tested.

    `archive` (--rootfs) and `cache` as in rootfs.unpacked; `env` says where programs and the container engine are.
    Raises UntestableError where there is no such place, UsageError where what was asked for is none. That a root has
    the stack's release is the caller's to check.
    """
    if archive is not None and kind == "docker":
        raise UsageError(
            "--rootfs is the sandbox's Alpine root, and --run-root is docker", hint="leave one of them out"
        )
    if kind == "sandbox" or archive is not None:
        return _sandbox(stack, archive, cache, env, on_warning)
    found = engine.must_find(env, flag="--run-root docker") if kind == "docker" else engine.find(env)
    reason = "neither Docker nor Podman answers"
    if found is not None:
        try:
            made = _docker(found, stack, cache, on_warning)
            return replace(made, otherwise=_sandbox(stack, None, cache, env, on_warning) if kind == "auto" else None)
        except BuildError as error:
            if kind == "docker":
                raise UntestableError(error.message, hint=error.hint) from error
            reason = error.message
    release = sandbox_release(cache, env)
    if release is None or not is_release_of(release, stack):
        other = "there is no Alpine root for the sandbox" if release is None else f"the sandbox is Alpine {release}"
        raise UntestableError(
            f"there is no Alpine {stack.version} to test in: {reason}, and {other}",
            hint=f"have a Docker engine run, or give --rootfs an Alpine {stack.version} minirootfs",
        )
    if found is not None:
        on_warning(f"{reason}: the test runs in the sandbox instead")
    return _sandbox(stack, None, cache, env, on_warning)


def _docker(found: engine.Engine, stack: Stack, cache: Path, on_warning: Callable[[str], None]) -> Place:
    image = engine.image(found, stack.run_images, on_warning, purpose="run")
    return Place(
        f"a container of {image}",
        lambda: Docker(found, image),
        lambda: build_docker.Docker(found, image, cache, repositories=stack.repositories, on_warning=on_warning),
    )


def _sandbox(
    stack: Stack, archive: Path | None, cache: Path, env: Mapping[str, str], on_warning: Callable[[str], None]
) -> Place:
    return Place(
        "the sandbox",
        lambda: Sandbox(archive, cache, env),
        lambda: build_sandbox.Sandbox(archive, cache, env, repositories=stack.repositories, on_warning=on_warning),
    )

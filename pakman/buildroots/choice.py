"""Which build root a build gets: the one that was asked for, or the best that is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from pakman.buildroots import BuildRoot, engine, native, rootfs
from pakman.buildroots.docker import Docker
from pakman.buildroots.native import Native
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError, UsageError
from pakman.stack import Stack

Kind = Literal["auto", "native", "docker", "sandbox"]
"""What a user may ask for."""
KINDS: tuple[Kind, ...] = get_args(Kind)


def build_root(
    kind: Kind,
    stack: Stack,
    *,
    archive: Path | None,
    cache: Path,
    env: Mapping[str, str],
    on_notice: Callable[[str], None],
    on_warning: Callable[[str], None],
) -> BuildRoot:
    """Return a root for `stack`, to be entered.

    `archive` (--rootfs) and `cache` as in rootfs.unpacked; `env` says where programs and the container engine are.
    Raises UsageError and BuildError where there is none; that it has the stack's version is the caller's to check.
    """
    if archive is not None and kind not in ("auto", "sandbox"):
        raise UsageError(
            f"--rootfs is the sandbox's Alpine root, and --build-root is {kind}", hint="leave one of them out"
        )
    sandbox = Sandbox(archive, cache, env, repositories=stack.repositories, on_notice=on_notice, on_warning=on_warning)
    if kind == "sandbox" or archive is not None:
        return sandbox
    if kind == "native" or (kind == "auto" and _is_container_of(stack)):
        if kind == "native":
            _must_be(stack)
        hidden = native.secret_places(env)
        return Native(cache, hidden=hidden, repositories=stack.repositories, on_notice=on_notice, on_warning=on_warning)
    found = engine.must_find(env) if kind == "docker" else engine.find(env)
    if found is None:
        return sandbox
    try:
        image = engine.image(found, stack.build_images, on_warning)
        return Docker(found, image, cache, repositories=stack.repositories, on_warning=on_warning)
    except BuildError as error:
        if kind == "docker" or not _sandbox_has(stack, cache, env):
            raise
        on_warning(f"{error.message}: the build runs in the sandbox instead")
        return sandbox


def is_release_of(release: str, stack: Stack) -> bool:
    """Say whether a root's /etc/alpine-release is the stack's version."""
    # Edge calls itself by the release that it is going to be: 3.24.0_alpha20260127.
    is_edge = "_alpha" in release
    return is_edge if stack.version == "edge" else version(release) == stack.version and not is_edge


def version(release: str) -> str:
    """Return the version that a release belongs to: `3.23` of 3.23.6."""
    return ".".join(release.split("_")[0].split(".")[:2])


def _is_container_of(stack: Stack) -> bool:
    release = native.release()
    return os.geteuid() == 0 and native.is_container() and release is not None and is_release_of(release, stack)


def _must_be(stack: Stack) -> None:
    """Raise UsageError where this machine is not what a stack is built on."""
    release = native.release()
    if release is None or not is_release_of(release, stack):
        found = "which is not Alpine" if release is None else f"which is Alpine {release}"
        raise UsageError(
            f"--build-root native builds on this machine, {found}; {stack.name} takes Alpine {stack.version}",
            hint="leave --build-root out, and a container of the right Alpine is looked for",
        )


def sandbox_release(cache: Path, env: Mapping[str, str]) -> str | None:
    """Return the release of the sandbox's own Alpine root, None where there is none."""
    try:
        return (rootfs.unpacked(None, cache, env) / "etc/alpine-release").read_text().strip()
    except (BuildError, UsageError, OSError):
        return None


def _sandbox_has(stack: Stack, cache: Path, env: Mapping[str, str]) -> bool:
    release = sandbox_release(cache, env)
    return release is not None and is_release_of(release, stack)

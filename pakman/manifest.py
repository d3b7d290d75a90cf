"""The manifest: `instellar.yml` as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

HOOKS = ("pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-deinstall", "post-deinstall")
"""The six suffixes of `install=` in an APKBUILD, and the keys of `hook`."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """apk's dependency words, as the manifest has them (`name`, `name>=1.2`, `so:…`); `trace` is abuild's tracedeps."""

    build: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """How the tree that is packed comes about: a shell script, then globs relative to the application's root."""

    command: str = ""
    destinations: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    strip_binary: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """One of run.services: `path`/`binary` (default /var/lib/NAME/bin) with the shell words of `call`."""

    name: str
    binary: str
    path: str | None = None
    call: str = ""
    stop: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """One of run.commands: what `rc-service NAME <name>` runs."""

    name: str
    binary: str
    path: str | None = None
    call: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """The service: `name` is also the package's; `user` is "root" or None for the package's own user."""

    name: str | None = None
    user: str | None = None
    services: tuple[Service, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `instellar.yml` says, checked; what only the deployment API reads stays plain YAML data."""

    stack: str | None = None
    type: Literal["static", "custom"] | None = None
    dependencies: Dependencies = Dependencies()
    architectures: tuple[str, ...] | None = None
    build: Build = Build()
    package: str | None = None
    source: tuple[str, ...] = ()
    run: Run | None = None
    hook: Mapping[str, str] = field(default_factory=dict)
    kits: tuple[Mapping[str, Any], ...] = ()
    sizes: tuple[Mapping[str, Any], ...] = ()
    plans: tuple[Mapping[str, Any], ...] = ()
    page: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None
    license: str | None = None
    url: str | None = None
    maintainer: str | None = None

"""The manifest: `instellar.yml` as frozen values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pakman import stack, validation
from pakman.problems import Problem
from pakman.stack import STACKS, Stack
from pakman.validation.doubts import SERVICE_DEPENDENCIES as SERVICE_DEPENDENCIES
from pakman.validation.yaml_tree import Node

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
class Stop:
    """How a service is stopped: its own program with the shell words of `call`, then the signal, `TERM` or the like."""

    call: str = ""
    signal: str = "TERM"
    pid_path: str | None = None
    """What the program leaves behind when it crashes, and would keep it from starting; relative to /var/lib/NAME."""


@dataclass(frozen=True, slots=True)
class Ready:
    """When a service has started: the TCP port has a listener, and the shell words of `command` succeed.

    With neither, it is the main kit's main port: see `main_port`.
    """

    port: int | None = None
    command: str = ""
    timeout: int = 30
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Service:
    """One of run.services: `path`/`binary` (default /var/lib/NAME/bin) with the shell words of `call`."""

    name: str
    binary: str
    path: str | None = None
    call: str = ""
    stop: Stop = Stop()
    ready: Ready | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One of run.commands: what `rc-service NAME <name>` runs."""

    name: str
    binary: str
    path: str | None = None
    call: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """The service: `name` is also the package's; `user` is "root" or None for the package's own user.

    `supervisor` is None where the dependencies decide: see `pakman.service.supervisor`.
    """

    name: str | None = None
    user: str | None = None
    supervisor: Literal["s6", "supervise-daemon"] | None = None
    services: tuple[Service, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Test:
    """What the package test does beyond its own checks; nothing of it is in the package."""

    command: str = ""
    """A shell script, run as root under `set -e` where the package has been installed."""
    packages: tuple[str, ...] = ()
    """apk's dependency words, added for the test."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the services are to find; each value is one line."""

    def env_file(self) -> str:
        """Return the environment as lines of /etc/NAME/env; reading those takes one pair of quotes off each value."""
        return "".join(f'{key}="{value}"\n' for key, value in self.environment.items())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `instellar.yml` says, checked; what only the deployment API reads stays plain YAML data."""

    stack: str | None = None
    """The stack's name, `alpine/3.20`, however it is written; None where none is named."""
    type: Literal["static", "custom"] | None = None
    dependencies: Dependencies = Dependencies()
    architectures: tuple[str, ...] | None = None
    build: Build = Build()
    package: str | None = None
    source: tuple[str, ...] = ()
    run: Run | None = None
    hook: Mapping[str, str] = field(default_factory=dict)
    test: Test = Test()
    kits: tuple[Mapping[str, Any], ...] = ()
    sizes: tuple[Mapping[str, Any], ...] = ()
    plans: tuple[Mapping[str, Any], ...] = ()
    page: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None
    license: str | None = None
    url: str | None = None
    maintainer: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A manifest read: its values where it is valid, and all that is wrong or doubtful."""

    manifest: Manifest | None
    """None where there is an error."""
    problems: tuple[Problem, ...]
    """Sorted by place."""
    source: str
    root: Node | None = None
    """Its values with their places; None where it is no YAML."""


def read(file: Path, *, repository: str | None, today: datetime.date, stacks: Sequence[Stack] = STACKS) -> Reading:
    """Read and check a manifest; `repository` is the repository's name, where it is known, `stacks` what it may name.

    Raises UsageError where the file cannot be read. What only has to know what is wrong asks `pakman.validation`.
    """
    verdict = validation.validate(file, repository=repository, today=today, stacks=stacks)
    found = _manifest(verdict.data, stacks) if verdict.valid else None
    return Reading(found, verdict.problems, verdict.source, verdict.root)


def main_kit(manifest: Manifest) -> Mapping[str, Any]:
    """Return the kit that is installed first, as it is in the manifest; an empty one where there is none."""
    return next((kit for kit in manifest.kits if kit.get("main")), {})


def main_port(manifest: Manifest) -> int | None:
    """Return the port that the main kit's main port leads to, if there is one; the first, where none is main."""
    ports = [port for port in main_kit(manifest).get("ports") or () if port.get("target")]
    port = next((port for port in ports if port.get("main")), ports[0] if ports else {})
    return port.get("target")


def _manifest(data: Mapping[str, Any], stacks: Sequence[Stack]) -> Manifest:
    found = stack.find(data["stack"], stacks) if "stack" in data else None
    source = data.get("source", ())
    plain = ("type", "package", "hook", "page", "description", "license", "url", "maintainer")
    return Manifest(
        stack=found.name if found is not None else None,
        dependencies=_dependencies(data.get("dependencies", {})),
        architectures=tuple(data["architectures"]) if "architectures" in data else None,
        build=_build(data.get("build", {})),
        source=tuple(source.split() if isinstance(source, str) else source),
        run=_run(data["run"]) if "run" in data else None,
        test=_test(data.get("test", {})),
        kits=tuple(data.get("kits", ())),
        sizes=tuple(data.get("sizes", ())),
        plans=tuple(data.get("plans", ())),
        **{key: data[key] for key in plain if key in data},
    )


def _dependencies(data: Mapping[str, Any]) -> Dependencies:
    return Dependencies(tuple(data.get("build", ())), tuple(data.get("runtime", ())), data.get("trace", False))


def _build(data: Mapping[str, Any]) -> Build:
    lists = {key: tuple(data[key]) for key in ("destinations", "exclude") if key in data}
    return Build(**{**data, **lists})


def _test(data: Mapping[str, Any]) -> Test:
    return Test(data.get("command", ""), tuple(data.get("packages", ())), data.get("environment", {}))


def _run(data: Mapping[str, Any]) -> Run:
    return Run(
        name=data.get("name"),
        user=data.get("user"),
        supervisor=data.get("supervisor"),
        services=tuple(
            Service(
                name=service["name"],
                binary=service["binary"],
                path=service.get("path"),
                call=service.get("start", {}).get("call", ""),
                stop=Stop(**{key: value for key, value in service.get("stop", {}).items() if key != "kill"}),
                ready=Ready(**service["ready"]) if "ready" in service else None,
            )
            for service in data.get("services", ())
        ),
        commands=tuple(Command(**command) for command in data.get("commands", ())),
    )

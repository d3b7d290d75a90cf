"""The service: the files that start, supervise and command it on the installed system, and apk's install scripts.

What root runs is under /usr/libexec/NAME: /var/lib/NAME belongs to the application's user, and a file that root runs or
reads from a directory that somebody else may rewrite is a way to become root.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from pakman import names
from pakman.errors import ManifestError
from pakman.manifest import HOOKS, SERVICE_DEPENDENCIES, Command, Manifest, Ready, Run, Service, main_kit, main_port
from pakman.templating import RecipeFile, render

COPIES = PurePosixPath("/var/lib/pakman")
"""On the installed system: where root keeps the last good copy of each service's environment, one directory a name."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class _Command:
    """The words that `rc-service NAME COMMAND` runs, exactly."""

    name: str
    words: tuple[str, ...]
    description: str


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a start waits for, for so many seconds: a listener on the port, the words' success."""

    port: int | None
    words: tuple[str, ...]
    timeout: int

    @property
    def hexadecimal(self) -> str:
        """The port as /proc/net/tcp has it."""
        return "" if self.port is None else f"{self.port:04X}"


@dataclass(frozen=True, slots=True)
class _Service:
    """The words that are run and those that ask for the end, exactly; `stale` is removed before each start."""

    name: str
    words: tuple[str, ...]
    stop: tuple[str, ...]
    signal: str
    stale: PurePosixPath | None
    ready: _Ready | None


def has_service(manifest: Manifest) -> bool:
    """Say whether there is anything for an init script to run."""
    return manifest.run is not None and bool(manifest.run.services or manifest.run.commands)


def supervisor(manifest: Manifest) -> Literal["s6", "supervise-daemon"]:
    """Return what supervises the services: run.supervisor, else s6 where the runtime dependencies have it."""
    if manifest.run is not None and manifest.run.supervisor is not None:
        return manifest.run.supervisor
    named = (names.dependency_name(word) for word in manifest.dependencies.runtime)
    return "s6" if "s6" in named else "supervise-daemon"


def dependencies(manifest: Manifest) -> tuple[str, ...]:
    """Return the packages that the generated files need in the installed system."""
    if not has_service(manifest):
        return ()
    is_s6 = manifest.run is not None and bool(manifest.run.services) and supervisor(manifest) == "s6"
    return (*SERVICE_DEPENDENCIES, *(("s6",) if is_s6 else ()))


def service_files(manifest: Manifest, name: str) -> tuple[RecipeFile, ...]:
    """Return what a package with services or commands installs for them; nothing for any other package.

    The words of `call` are taken as a shell would split them, quotes removed, and nothing in them is expanded: `$PORT`
    is these five characters. Raises ManifestError for a `call` whose quotes do not match.
    """
    if manifest.run is None or not has_service(manifest):
        return ()
    _must_be_name(name)
    libexec = PurePosixPath("/usr/libexec") / name
    own = PurePosixPath("/var/lib") / name / "bin"
    services = tuple(_service(service, name, main_port(manifest)) for service in manifest.run.services)
    commands = tuple(_commands(manifest.run, name, libexec))
    required, defaults = _variables(manifest)
    values: dict[str, object] = {
        "name": name,
        "user": manifest.run.user or name,
        "libexec": libexec,
        "kept": COPIES / name,
        "supervisor": supervisor(manifest),
        "services": services,
        "required": required,
        "defaults": defaults,
        "commands": commands,
        "refused": names.REFUSED_VARIABLES,
        # What supervise-daemon calls must be among them.
        "extra_commands": (
            *(command.name for command in commands),
            *(("healthcheck",) if services and supervisor(manifest) == "supervise-daemon" else ()),
        ),
    }
    places = (
        ("initd", 0o755, PurePosixPath("/etc/init.d") / name),
        *((suffix, 0o755, libexec / suffix) for suffix in _supervised(manifest, services)),
        ("environment", 0o644, libexec / "environment"),
        ("variables", 0o755, libexec / "variables"),
        ("variables.awk", 0o644, libexec / "variables.awk"),
        ("env-exec", 0o755, libexec / "env-exec"),
        # The names that users know. They may be replaced by the application's own: nothing of ours goes by them.
        ("bin-environment", 0o755, own / "environment"),
        ("bin-env-exec", 0o755, own / "env-exec"),
    )
    return tuple(
        RecipeFile(f"{name}.{suffix}", render(f"service/{suffix}.j2", **values), mode, target)
        for suffix, mode, target in places
    )


def install_scripts(manifest: Manifest, name: str) -> tuple[RecipeFile, ...]:
    """Return apk's install scripts, of its six kinds those that are needed: our part first, then the manifest's hook.

    A hook is there as it was written and runs under `set -e`, as root, with the arguments that apk gives. In it,
    `rc-service` and `rc-update` do nothing where there is no OpenRC.
    """
    _must_be_name(name)
    kinds = HOOKS if has_service(manifest) else ("pre-install", "pre-upgrade", *manifest.hook)
    return tuple(
        RecipeFile(
            f"{name}.{kind}",
            render(
                "service/install.j2",
                kind=kind,
                name=name,
                # A name in the grammar of `grep`.
                pattern=name.replace(".", "[.]"),
                service=has_service(manifest),
                hook=manifest.hook.get(kind, "").removesuffix("\n"),
                kept=COPIES / name,
                copies=COPIES,
            ),
            0o755,
        )
        for kind in HOOKS
        if kind in kinds
    )


def required_variables(manifest: Manifest) -> tuple[str, ...]:
    """Return the variables without which the services do not start, and which nothing gives a value by itself."""
    return _variables(manifest)[0]


def own_programs(manifest: Manifest, name: str) -> tuple[str, ...]:
    """Return the programs that services and commands expect in the package itself, relative to /: var/lib/NAME/bin/web.

    Those with a `path` may come from another package.
    """
    entries: tuple[Service | Command, ...] = ()
    if manifest.run is not None:
        entries = (*manifest.run.services, *manifest.run.commands)
    return tuple(dict.fromkeys(f"var/lib/{name}/bin/{entry.binary}" for entry in entries if entry.path is None))


def _supervised(manifest: Manifest, services: tuple[_Service, ...]) -> Iterator[str]:
    """The scripts that are there for the supervisor."""
    if services:
        yield "run"
        yield from ("finish", "log") if supervisor(manifest) == "s6" else ()
    if any(service.ready for service in services):
        yield "ready"


def _variables(manifest: Manifest) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the main kit's variables that must be there, and those that have a value where nobody gives another.

    What a driver makes has no value without it: its default is for the driver to read. Under which names a driver of
    databases or buckets puts what it makes is its own affair: only of secrets it is known to be the key.
    """
    known = [each for each in main_kit(manifest).get("variables") or () if _VARIABLE.fullmatch(each["key"])]
    defaults = {
        each["key"]: each["default_value"] for each in known if "default_value" in each and "driver" not in each
    }
    required = (
        each["key"]
        for each in known
        if each.get("required") and each["key"] not in defaults and each.get("driver", "/secret").endswith("/secret")
    )
    return tuple(dict.fromkeys(required)), tuple((key, _text(value)) for key, value in defaults.items())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _commands(run: Run, name: str, libexec: PurePosixPath) -> Iterator[_Command]:
    """What `rc-service NAME COMMAND` runs: the manifest's commands, and `logs` where none has that name."""
    for command in run.commands:
        words = (_binary(command, name), *_words(command.call, f"run.commands: the quotes in `call` of {command.name}"))
        yield _Command(command.name, (str(libexec / "env-exec"), "--", *words), shlex.join(words))
    if all(command.name != "logs" for command in run.commands):
        log = f"/var/log/{name}/current"
        yield _Command("logs", ("/usr/bin/tail", "-n", "100", "-F", log), f"follow {log}")


def _service(service: Service, name: str, main_port: int | None) -> _Service:
    binary = _binary(service, name)
    stop = service.stop
    return _Service(
        name=service.name,
        words=(binary, *_words(service.call, f"run.services: the quotes in `call` of {service.name}")),
        stop=(binary, *_words(stop.call, f"run.services: the quotes in `stop.call` of {service.name}"))
        if stop.call
        else (),
        signal=stop.signal,
        stale=PurePosixPath("/var/lib") / name / stop.pid_path if stop.pid_path is not None else None,
        ready=_ready(service.name, service.ready, main_port) if service.ready is not None else None,
    )


def _ready(service: str, ready: Ready, main_port: int | None) -> _Ready:
    words = _words(ready.command, f"run.services: the quotes in `ready.command` of {service}")
    port = ready.port if ready.port is not None or words else main_port
    if port is None and not words:
        raise ManifestError(
            f"run.services: `ready` of {service} says neither port nor command, and no main kit has a port",
            hint="add the port that the service listens on",
        )
    return _Ready(port, tuple(words), ready.timeout)


def _binary(entry: Service | Command, name: str) -> str:
    directory = entry.path or f"/var/lib/{name}/bin"
    return f"{directory.rstrip('/')}/{entry.binary}"


def _words(text: str, subject: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ManifestError(
            f"{subject} do not match: {text}",
            hint="close each quote, or put a backslash before a quote that is meant as a character",
        ) from error


def _must_be_name(name: str) -> None:
    # The templates rely on it: such a name means itself in shell, in awk and as a file.
    if not _NAME.fullmatch(name):
        raise ManifestError(
            f"{name!r} cannot be the name of a package with an account of its own",
            hint="use letters, digits and `._-`, beginning with a letter or a digit",
        )

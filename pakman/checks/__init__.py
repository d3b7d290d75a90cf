"""What a package is held against in a run root: one module per moment in its life, one check per promise."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pakman import manifest as manifests
from pakman import service
from pakman.apk.package import Package
from pakman.apk.read import Control, read_control
from pakman.manifest import Manifest
from pakman.previous import Previous
from pakman.repository import Repository

Result = Literal["passed", "failed", "warning", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and what came of it."""

    name: str
    """The promise, as a sentence."""
    result: Result
    seconds: float = 0.0
    path: str = ""
    """What in the manifest it comes from, e.g. `run.services[0]`; empty where it is none of its values."""
    reason: str = ""
    """Why it has not passed, in a sentence; what else is worth knowing where it has."""
    lines: tuple[str, ...] = ()
    """The last lines of the output that matters."""


Checks = Generator[Check, None, bool]
"""Yields checks as they are done; returns whether the package's life can go on."""


@dataclass(frozen=True)
class Subject:
    """The package under test."""

    repository: Repository
    manifest: Manifest
    previous: Previous | None = None

    @property
    def package(self) -> Package:
        """The main package; the others are its subpackages."""
        found = self.manifest.run.name if self.manifest.run is not None else None
        names = {package.name: package for package in self.repository.packages}
        return names.get(found or self.repository.slug) or min(self.repository.packages, key=lambda each: each.name)

    @property
    def name(self) -> str:
        """The main package's name, which is its user's and its service's."""
        return self.package.name

    @cached_property
    def control(self) -> Control:
        """What the main package says of itself."""
        return read_control(self.package.path)

    @property
    def missing_variables(self) -> tuple[str, ...]:
        """The variables that the services need, and that nobody has given for the test."""
        return tuple(
            key for key in service.required_variables(self.manifest) if key not in self.manifest.test.environment
        )

    @property
    def services(self) -> tuple[manifests.Service, ...]:
        """The services, the first of which runs where nothing says otherwise."""
        return self.manifest.run.services if self.manifest.run is not None else ()

    def hook_path(self, kind: str) -> str:
        """Return the manifest path that a script of apk's (`post-install`) comes from."""
        return f"hook.{kind}" if kind in self.manifest.hook else "run" if self.manifest.run is not None else ""

    @property
    def content_path(self) -> str:
        """Return the manifest path that the package's files come from."""
        return "package" if self.manifest.package is not None else "build.destinations"


OWN_TEST = "the manifest's own test passes"
"""The name of the check that is `test.command`."""

_NOISE = ("WARNING: opening ", "needs non existent service", "Caching service dependencies", "cgroup")


def worth_reading(lines: Sequence[str], most: int = 15) -> tuple[str, ...]:
    """Return the last lines without OpenRC's complaints about a root that has no hardware."""
    return tuple(line for line in lines if line.strip() and not any(word in line for word in _NOISE))[-most:]


def last_words(lines: Sequence[str]) -> str:
    """Return the last line that says something, without what OpenRC puts before it."""
    said = worth_reading(lines, 1)
    return said[0].strip().removeprefix("* ").strip() if said else ""

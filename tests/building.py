"""What tests of the build have in common: a cache of their own, an application, what is left of a process."""

from __future__ import annotations

import gzip
import os
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from pakman import build, stack
from pakman.manifest import Build, Manifest
from pakman.progress import Progress
from pakman.project import Project
from pakman.repository import Repository
from pakman.signing import SigningKey


def private_cache(folder: Path, pristine: Path) -> Path:
    """Return a cache directory whose unpacked roots are everybody's and whose views are the test's own."""
    folder.mkdir()
    (folder / "roots").symlink_to(pristine.parent)
    return folder


def processes(*command_line: str) -> list[int]:
    """Return the processes of this machine with exactly this command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == "".join(f"{word}\0" for word in command_line).encode():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def must_come(find: Callable[[], list[int]], count: int) -> list[int]:
    """Wait until as many are found, and return them: a program takes its moment to start."""
    deadline = time.monotonic() + 10
    while len(found := find()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found) == count
    return found


def must_go(find: Callable[[], object]) -> None:
    """Wait until nothing is found any more: a killed process takes its moment to go."""
    deadline = time.monotonic() + 10
    while find() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not find()


PROJECT = Project(
    owner="acme",
    name="Shop",
    slug="shop",
    commit="0123456789abcdef0123456789abcdef01234567",
    commit_time=1_700_000_000,
    version="1.0.0",
    release=0,
    version_source="a test",
)


def manifest(command: str = "", *destinations: str, **fields: Any) -> Manifest:
    """Return a manifest for Alpine 3.23, which is what the tests' root is, whose package holds `destinations`."""
    return Manifest(stack="alpine/3.23", build=Build(command=command, destinations=destinations or ("app",)), **fields)


@dataclass(frozen=True)
class Builds:
    """Builds of an application in `source`, each with what it said."""

    source: Path
    cache: Path
    key: SigningKey
    said: StringIO = field(default_factory=StringIO)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What these builds have that others have not."""

    def run(self, manifest: Manifest, output: Path, *, project: Project = PROJECT, **arguments: Any) -> Repository:
        """Build in this process."""
        progress = Progress(self.said, "plain", time.monotonic)
        defaults = {
            "rootfs": None,
            "cache": self.cache,
            "keys": [self.key],
            "stack": stack.find(manifest.stack or "3.24"),
            "keep": False,
            "build_root": "sandbox",
            "builder": "embedded",
        }
        everything = {
            **defaults,
            "progress": progress,
            "env": {"PATH": os.environ["PATH"]},
            **self.arguments,
            **arguments,
        }
        return build.build(manifest, project, self.source, output, **everything)

    @property
    def lines(self) -> list[str]:
        """What was said, without the indent of what children wrote."""
        return [line.strip() for line in self.said.getvalue().splitlines()]


def contents(package: Path) -> dict[str, bytes | None]:
    """Return the files of a package's control and data segments by name; None for what is no file."""
    found: dict[str, bytes | None] = {}
    inflated = gzip.decompress(package.read_bytes())
    with tarfile.open(fileobj=BytesIO(inflated), ignore_zeros=True) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            found[entry.name] = None if content is None else content.read()
    return found

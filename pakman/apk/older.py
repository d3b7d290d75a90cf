"""The package that came before: the same content under a lower version, to see a machine upgrade from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pakman import version
from pakman.apk.package import Package
from pakman.apk.read import read_control
from pakman.apk.signature import Signer
from pakman.apk.write import assemble


def write_older(packages: Iterable[Package], directory: Path, keys: Sequence[Signer]) -> tuple[Package, ...]:
    """Write packages of one recipe into `directory`, each under the version before its own, and sign them.

    What they depend on of each other, and what they provide, follows. The files are those of the packages: the data
    segment is copied as it is. Raises UsageError for a file that is no package, BuildError where one cannot be written.
    """
    found = tuple(packages)
    return tuple(_write_one(package.path, directory, {each.name for each in found}, keys) for package in found)


def _write_one(path: Path, directory: Path, names: Collection[str], keys: Sequence[Signer]) -> Package:
    control = read_control(path)
    metadata = control.metadata
    now, then = metadata.pkgver, version.before(metadata.pkgver)
    older = replace(
        metadata,
        pkgver=then,
        depends=tuple(_of_then(word, now, then, names) for word in metadata.depends),
        install_if=tuple(_of_then(word, now, then, names) for word in metadata.install_if),
        # cmd:shop=1.2.3-r0: whatever the name, it is the package's own.
        provides=tuple(_of_then(word, now, then, None) for word in metadata.provides),
    )
    with path.open("rb") as file:
        file.seek(control.data_offset)
        target = directory / f"{metadata.pkgname}-{then}.apk"
        return assemble(target, older, file, scripts=control.scripts, mtime=metadata.builddate, keys=keys)


def _of_then(word: str, now: str, then: str, names: Collection[str] | None) -> str:
    """Return a dependency word that was true of the older package: only what names this very version changes."""
    parts = re.fullmatch(r"([^<>=~]+)([<>=~]+)(.+)", word)
    if parts is None or parts[3] != now or (names is not None and parts[1] not in names):
        return word
    return f"{parts[1]}{parts[2]}{then}"

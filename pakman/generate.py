"""The story of `pakman generate`: an aport that `abuild` builds as it stands, in a directory of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pakman import recipe, scratch, signing, snapshot
from pakman.errors import ManifestError, UsageError
from pakman.manifest import HOOKS, Manifest
from pakman.project import Project
from pakman.recipe import APKBUILD, Recipe

_WRITTEN_BY = "# Written by pakman "
"""Begins a line of every APKBUILD of ours: the directory is ours to change."""
_SCRATCH = ".generating-"
"""Begins the name of what a run that was killed may leave behind."""


def generate(
    manifest: Manifest,
    project: Project,
    source: Path,
    output: Path,
    *,
    keys: Collection[signing.SigningKey] = (),
    skip: Collection[Path] = (),
    on_skipped: Callable[[str], None] = lambda _: None,
) -> Recipe:
    """Write recipe, snapshot and extra sources for the application in `source` to `output`; return the recipe.

    `skip` and `on_skipped` as in snapshot.write; skipped are, too, `keys` and other private keys of `keygen`'s.

    What an earlier run wrote there is replaced, and removed where it is no longer part of the recipe. Raises UsageError
    where the directory cannot be written or holds something else, ManifestError for a `source` that is not there.
    """
    with _writing(output):
        stale = _claim(output)
        top = f"{recipe.package_name(manifest, project)}-{project.version}"
        with _scratch(output) as made:
            checksum = snapshot.write(
                source,
                made / "tar",
                top=top,
                exclude=manifest.build.exclude,
                mtime=project.commit_time,
                skip=(output, *signing.may_be_keys(source, project.owner, project.name), *skip),
                is_secret=lambda name, content: signing.is_one(name, content, keys),
                on_skipped=on_skipped,
            )
            extras = {path.name: _copied(source, path, made) for path in recipe.extra_sources(manifest, project)}
            written = recipe.compose(manifest, project, snapshot_sha512=checksum, source_sha512=extras)
            for file in written.files:
                (made / file.name).write_text(file.content, newline="")
                (made / file.name).chmod(file.mode)
            (made / "tar").chmod(0o644)
            (made / "tar").rename(made / written.snapshot)
            # The APKBUILD first: from then on the directory is recognised as ours, whatever happens to the rest.
            names = [file.name for file in written.files] + [written.snapshot, *extras]
            for name in names:
                (made / name).replace(output / name)
        for name in stale - set(names):
            (output / name).unlink(missing_ok=True)
    return written


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    made = scratch.make(output, _SCRATCH)
    try:
        yield made.path
    finally:
        made.remove()


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror or error}",
            hint="give --output a directory that you may write to, with room in it",
        ) from error


def _claim(output: Path) -> set[str]:
    """Make the directory, or find it to be ours; return the names that an earlier run wrote."""
    output.mkdir(parents=True, exist_ok=True)
    if all(path.name.startswith(_SCRATCH) for path in output.iterdir()):
        return set()
    apkbuild = output / APKBUILD
    text = apkbuild.read_text(errors="replace") if apkbuild.is_file() else ""
    if f"\n{_WRITTEN_BY}" not in text:
        raise UsageError(
            f"{output} is not empty, and what is in it was not written by pakman",
            hint="give --output a directory of its own",
        )
    return {APKBUILD} | {source or script for source, script in _NAMED.findall(text)}


_NAMED = re.compile(
    rf"^(?:[0-9a-f]{{128}}  ([A-Za-z0-9+@~._-]+)|\t([A-Za-z0-9+@~._-]+\.(?:{'|'.join(HOOKS)})))$", re.MULTILINE
)
"""The names below `sha512sums=`, and the install scripts below `install=`."""


def _copied(source: Path, path: PurePosixPath, directory: Path) -> str:
    """Copy one file of the application; return its SHA-512 in hex."""
    found = source / path
    # Resolved: a link that leads out of the repository would ship a file of this machine.
    if not found.is_file() or not found.resolve().is_relative_to(source.resolve()):
        raise ManifestError(
            f"source: there is no file {path} in {source}", hint="name files of the repository, relative to its top"
        )
    target = directory / path.name
    shutil.copyfile(found, target)
    target.chmod(0o755 if os.access(found, os.X_OK) else 0o644)
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()

"""The story of `pakman build`: from manifest and sources to a signed repository on this machine."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from pakman import __version__, generate, recipe, scratch, service
from pakman.apk import index
from pakman.apk.output import writing
from pakman.builders.choice import Builder, builder_for, builder_name
from pakman.builders.driver import FOLDER
from pakman.buildroots import BuildRoot, caches, choice
from pakman.errors import BuildError, UsageError
from pakman.manifest import Manifest
from pakman.progress import Progress
from pakman.project import Project
from pakman.repository import INDEX_FILE, MANIFEST_FILE, MOST_BYTES, BuiltBy, Repository
from pakman.signing import SigningKey
from pakman.stack import Stack

SCRATCH = ".building-"
"""What a directory's name begins with that a build works in, in its output."""
_PROBE = 1 << 20
"""Bytes that have to fit into the output before a build begins: less is no package."""


def build(
    manifest: Manifest,
    project: Project,
    source: Path,
    output: Path,
    *,
    rootfs: Path | None,
    cache: Path,
    keys: Sequence[SigningKey],
    stack: Stack,
    progress: Progress,
    keep: bool,
    env: Mapping[str, str],
    build_root: choice.Kind = "auto",
    builder: Builder = "auto",
    key_files: Sequence[Path] = (),
    is_throwaway_key: bool = False,
) -> Repository:
    """Build the application in `source`, leave a signed repository in `output`, return what is in it.

    No packages in it: `architectures` leaves out this machine's, and `output` is as it was. `build_root`, `rootfs`,
    `cache` and `env` as in buildroots.choice, `builder` as in builders.choice; `key_files` are hidden from the build
    where they lie among the sources. `keep` leaves the build tree behind when the build fails.
    The first of `keys` is the signing key; while keys are rotated the previous one is the second, and signs, too.
    `is_throwaway_key`: nobody has the first but this build, and the repository says so. Raises BuildError, and
    UsageError where nothing can be built in.
    """
    refuse_places(source, output, cache)
    own = [source / key.name.removesuffix(".pub") for key in keys]
    hidden = [output, cache, *own, *key_files]
    with _working_in(output) as work:
        with progress.phase("Recipe and snapshot"):
            aport = work / "aport"
            generate.generate(manifest, project, source, aport, keys=keys, skip=hidden, on_skipped=progress.notice)
        with choice.build_root(
            build_root,
            stack,
            archive=rootfs,
            cache=cache,
            env=env,
            on_notice=progress.notice,
            on_warning=progress.warning,
        ) as root:
            _refuse_another_release(root, stack, named=manifest.stack is not None)
            _refuse_link(output / root.arch)
            with (
                progress.phase(f"Build in Alpine {root.release} ({root.arch})"),
                _kept_on_failure(root, keep=keep),
                caches.kept(root, cache, stack.version, progress) as kept,
            ):
                pack = builder_for(root, builder, kept.add_packages, on_line=progress.line, on_notice=progress.notice)
                packages = pack(
                    root,
                    aport,
                    work,
                    keys=keys,
                    mtime=project.commit_time,
                    commit=project.commit,
                    threads=len(os.sched_getaffinity(0)),
                    programs=service.own_programs(manifest, recipe.package_name(manifest, project)),
                    add_packages=kept.add_packages,
                    on_line=progress.line,
                    on_notice=progress.notice,
                )
            arch = root.arch
        made = Repository(
            directory=output,
            arch=arch,
            owner=project.owner,
            project=project.name,
            slug=project.slug,
            commit=project.commit,
            stack=stack.name,
            key_name=keys[0].name,
            previous_key_name=keys[1].name if len(keys) > 1 else None,
            is_throwaway_key=is_throwaway_key,
            packages=tuple(replace(package, path=output / arch / package.path.name) for package in packages),
            builder=BuiltBy(builder_name(pack), __version__),
        )
        if not packages:
            progress.notice(f"nothing to build on {arch}: it is not among the architectures to build for")
            return made
        _write_index(made, work, keys)
        with writing(output):
            _move_in(made, work)
    return made


def refuse_places(source: Path, output: Path, cache: Path) -> None:
    """Refuse an output or a cache that would be part of the next snapshot, and packages among git's own files.

    Raises UsageError.
    """
    sources, made = source.resolve(), output.resolve()
    own_output = "give --output a directory of its own, for instance --output packages"
    if made.exists() and not made.is_dir():
        raise UsageError(f"{output} is a file, and the repository is a directory", hint=own_output)
    if made == sources:
        raise UsageError(
            f"{output} holds the application: packages in it would become part of the next build", hint=own_output
        )
    if any(path.name == ".git" and not sources.is_relative_to(path) for path in (made, *made.parents)):
        raise UsageError(f"{output} is in git's own folder", hint=own_output)
    if sources.is_relative_to(cache.resolve()):
        raise UsageError(
            f"{cache} holds the application: what is kept there would become part of the next build",
            hint="give --cache-dir a directory of its own, for instance --cache-dir .pakman-cache",
        )


def _refuse_link(directory: Path) -> None:
    """Refuse, before a long build, a link that whoever wrote the repository can have committed."""
    if directory.is_symlink():
        raise UsageError(
            f"{directory} is a link, and packages go into that directory",
            hint="take it away, or give --output another directory",
        )


def _refuse_another_release(root: BuildRoot, wanted: Stack, *, named: bool) -> None:
    """A package that was built on another release links to libraries that its own does not have."""
    if choice.is_release_of(root.release, wanted):
        return
    own = "alpine/edge" if "_alpha" in root.release else f"alpine/{choice.version(root.release)}"
    meant = f"the stack is {wanted.name}" if named else f"the manifest names no stack, {wanted.name} is meant"
    raise BuildError(
        f"{meant}, but the build root is Alpine {root.release}",
        hint=f"have a Docker engine run, give --rootfs an Alpine {wanted.version} minirootfs, "
        f"or build for {own}: write `stack: {own}` into the manifest, and give no other --stack",
    )


@contextmanager
def _working_in(output: Path) -> Iterator[Path]:
    """Yield a directory in `output`, on its disk; refuse now what could not be written after a long build."""
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        work = scratch.make(output, SCRATCH)
    try:
        with writing(output):
            probe = work.path / "probe"
            with probe.open("wb") as file:
                _take_room(file)
            probe.unlink()
        yield work.path
    finally:
        work.remove()


def _take_room(file: IO[bytes]) -> None:
    try:
        # Not written and flushed, which takes as long as the disk does.
        os.posix_fallocate(file.fileno(), 0, _PROBE)
    except OSError as error:
        # Some file systems promise nothing: there it is known in the end.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


@contextmanager
def _kept_on_failure(root: BuildRoot, *, keep: bool) -> Iterator[None]:
    try:
        yield
    except BuildError as error:
        if not keep:
            raise
        kept = f"the build tree is kept in {root.keep(FOLDER)}"
        raise BuildError(error.message, hint=f"{error.hint}\n{kept}".lstrip()) from error


def _write_index(repository: Repository, work: Path, keys: Sequence[SigningKey]) -> None:
    """Write index, public keys and packages.json beside the packages in `work`."""
    packages = [work / package.path.name for package in repository.packages]
    description = f"{repository.owner}/{repository.project}"[: index.MAX_DESCRIPTION]
    index.write_local_index(work / INDEX_FILE, packages, keys, description, repository.arch)
    with writing(work):
        for key in keys:
            (work / key.name).write_bytes(key.public_pem)
        (work / MANIFEST_FILE).write_text(repository.to_json())
        for name in (*(key.name for key in keys), MANIFEST_FILE):
            (work / name).chmod(0o644)


def _move_in(repository: Repository, work: Path) -> None:
    """Move what was made to where it belongs: at every moment the index names only what is there."""
    directory = repository.index.parent
    names = [package.path.name for package in repository.packages]
    with scratch.locked(repository.directory):
        directory.mkdir(exist_ok=True)
        before = _earlier_packages(repository.manifest_file)
        repository.manifest_file.unlink(missing_ok=True)
        for name in names:
            (work / name).replace(directory / name)
        for key in repository.public_keys:
            (work / key.name).replace(key)
        (work / INDEX_FILE).replace(repository.index)
        (work / MANIFEST_FILE).replace(repository.manifest_file)
        for name in before - set(names):
            (directory / name).unlink(missing_ok=True)


def _earlier_packages(manifest_file: Path) -> set[str]:
    """Return the names of the packages that an earlier build left here: they are in no index any more."""
    # What is in a repository that was checked out may be a link to a device without an end.
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError), manifest_file.open("rb") as stream:
        packages = json.loads(stream.read(MOST_BYTES))["packages"]
        return {name for package in packages if (name := Path(package["file"]).name).endswith(".apk")}
    return set()

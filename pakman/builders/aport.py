"""The aport on this machine: an APKBUILD and the files beside it, held against what the APKBUILD says of them."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from pakman import command
from pakman.builders.apkbuild import Apkbuild
from pakman.builders.driver import FOLDER, PKGBASEDIR, SRCDIR, STARTDIR, WORK
from pakman.buildroots import BUILD_USER, BuildRoot
from pakman.errors import BuildError

_SHOWN = 120
"""Characters of a build command that fit into a sentence."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A file beside the aport that a builder needs; the directory that it is in is root's."""

    path: PurePosixPath
    """Below driver.FOLDER."""
    content: bytes
    mode: int = 0o644
    owner: str = "root"


def copy_in(aport: Path, root: BuildRoot, beside: Collection[Beside] = ()) -> None:
    """Copy the aport into the root, as root's, so that a build cannot change what is built; make what is beside it."""
    packer = "root" if root.confines_root else BUILD_USER

    def write(pipe: IO[bytes]) -> None:
        with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(aport.iterdir()):
                if path.is_file():
                    entry = tar.gettarinfo(path, arcname=f"{STARTDIR.name}/{path.name}")
                    entry.uid = entry.gid = 0
                    entry.uname = entry.gname = "root"
                    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                    with path.open("rb") as file:
                        tar.addfile(entry, file)
            for directory, owner in ((WORK, BUILD_USER), (SRCDIR, BUILD_USER), (PKGBASEDIR, packer)):
                entry = tarfile.TarInfo(str(directory.relative_to(FOLDER)))
                entry.type, entry.mode, entry.uname, entry.gname = tarfile.DIRTYPE, 0o755, owner, owner
                tar.addfile(entry)
            for each in beside:
                entry = tarfile.TarInfo(str(each.path.relative_to(FOLDER)))
                entry.size, entry.mode, entry.uname, entry.gname = len(each.content), each.mode, each.owner, each.owner
                tar.addfile(entry, BytesIO(each.content))

    with command.fed(write) as stream:
        root.copy_in(stream, FOLDER, user="root")


def refuse_what_takes_abuild(recipe: Apkbuild) -> None:
    """Raise BuildError for what the embedded builder cannot do, rather than make another package than abuild would."""
    if not recipe.has_option("!tracedeps"):
        raise BuildError(
            "the embedded builder cannot trace which libraries a program needs (dependencies.trace)",
            hint="name the packages in dependencies.runtime and leave dependencies.trace out",
        )
    for word in recipe.words("subpackages"):
        if word != f"{recipe.name}-openrc":
            raise BuildError(f"the embedded builder splits off {recipe.name}-openrc and nothing else, not {word}")
    for word in recipe.words("source"):
        if "://" in word or "::" in word:
            raise BuildError(
                f"the embedded builder downloads no sources, as {word}",
                hint="put the file into the repository, or download it in build.command",
            )
    for word in recipe.words("triggers"):
        raise BuildError(f"the embedded builder knows no triggers, as {word}")
    others = recipe.functions & {"prepare", "fetch", "unpack", *(() if recipe.has_option("!check") else ("check",))}
    for function in sorted(others):
        raise BuildError(f"the embedded builder runs build() and package() of an APKBUILD, and not {function}()")
    if "package" not in recipe.functions:
        raise BuildError("APKBUILD: package() is missing")


def refuse_what_takes_root(recipe: Apkbuild) -> None:
    """Raise BuildError for a user's package script, which goes by being root, where only the build user packs."""
    if f"{recipe.name}.package" in recipe.words("source"):
        raise BuildError(
            "the package script takes root, which here is root of this whole machine: the embedded builder does not "
            "run it in the build root native",
            hint="use --builder abuild, or --build-root docker",
        )


def verify(aport: Path, recipe: Apkbuild) -> None:
    """Raise BuildError where a source or script is not there, or not the one that sha512sums names."""
    for name in recipe.words("install"):
        if not (aport / name).is_file():
            raise BuildError(f"APKBUILD: the install script {name} is not beside it")
    for name in recipe.words("source"):
        try:
            with (aport / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha512").hexdigest()
        except FileNotFoundError as error:
            raise BuildError(f"APKBUILD: the source {name} is not beside it") from error
        if recipe.checksums.get(name) != found:
            raise BuildError(
                f"{name} is not the file that sha512sums in the APKBUILD names", hint="generate the recipe again"
            )


def scripts(aport: Path, recipe: Apkbuild, package: str) -> dict[str, bytes]:
    """Return the install scripts of one package by their names in it: `.pre-install`."""
    found = {}
    for name in recipe.words("install"):
        owner, _, kind = name.rpartition(".")
        if owner == package:
            found[f".{kind}"] = (aport / name).read_bytes()
    return found


def build_command(aport: Path, recipe: Apkbuild) -> str:
    """Return the user's build command, as far as it fits into a sentence."""
    script = aport / f"{recipe.name}.build"
    text = script.read_text(errors="replace") if script.is_file() else ""
    first, *more = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if not first:
        return "build()"
    return f"the build command `{first[:_SHOWN]}{' …' if more or len(first) > _SHOWN else ''}`"

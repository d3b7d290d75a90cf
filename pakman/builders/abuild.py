"""The builder abuild: Alpine's own, run in the build root by the unprivileged user, its packages signed out here.

It gets what `abuild -r` would install from root first, because who may install packages is root; and a key that was
made for this one build, because it packs nothing without one. What comes out is read before it is believed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pakman import signing
from pakman.apk.output import writing
from pakman.apk.package import Package
from pakman.apk.read import PackageFile, read_package
from pakman.apk.signature import Signer, resign
from pakman.builders import aport as aports
from pakman.builders import postcheck
from pakman.builders.apkbuild import Apkbuild
from pakman.builders.driver import FOLDER, PACKAGER, SRCDIR, STARTDIR, WORK, Driver, environment
from pakman.builders.messages import Messages
from pakman.buildroots import BUILD_USER, AddPackages, BuildRoot
from pakman.errors import BuildError, UsageError

_USERDIR = FOLDER / "abuild"
"""abuild's settings and key; not in the build user's hands."""
_REPODEST = WORK / "packages"
_TREES = WORK / "pkg"
_TEMPORARY = WORK / "tmp"
_KEY = _USERDIR / "pakman.rsa"
_KEY_BITS = 1024
_SETTINGS = f"""\
PACKAGER_PRIVKEY={_KEY}
srcdir={SRCDIR}
pkgbasedir={_TREES}
tmpdir={_TEMPORARY}
USE_COLORS=
USE_CCACHE=
CLEANUP=
ERROR_CLEANUP=
"""
_BUILD = """
# fakeroot closes every descriptor that there may be, each time it starts a program.
ulimit -S -n 1024 2>/dev/null || :
# Before abuild 3.14, which Alpine 3.21 brought, it had another name.
validate=sanitycheck
grep -q '^validate()' "$(command -v abuild)" && validate=validate
exec abuild -d -m "$validate" unpack prepare build rootpkg
"""
"""Of what `abuild -r` does all but what is done out here or has no use here: packages and users are there, the tree is
a new one, `unpack` itself begins with what `fetch` does, and the index is written with the key that machines trust."""


def build(
    root: BuildRoot,
    aport: Path,
    output: Path,
    *,
    keys: Sequence[Signer],
    mtime: int,
    commit: str | None,
    threads: int,
    programs: Sequence[str] = (),
    add_packages: AddPackages | None = None,
    on_line: Callable[[str], None],
    on_notice: Callable[[str], None],
) -> tuple[Package, ...]:
    """Build the aport in an entered root that has abuild, and put its packages into the directory `output`.

    As embedded.build; the root needs abuild. Raises BuildError that names the phase, and quotes abuild.
    """
    env = _environment(root.arch, mtime=mtime, threads=threads, commit=commit)
    driver = Driver(root, env, on_line)
    aports.copy_in(aport, root, _settings())
    recipe = driver.read()
    if recipe.arch_on(root.arch) is None:
        return ()
    aports.verify(aport, recipe)
    (add_packages or root.add_packages)(_needed(recipe), on_line)
    driver.must("make-users", user="root")
    said = Messages(recipe.name, str(_TREES), on_line, lambda text: on_notice(f"abuild: {text}"))
    status = root.call(["/bin/sh", "-c", _BUILD], user="build", env=env, cwd=STARTDIR, on_line=said.line)
    if status != 0:
        raise said.failure(status, aports.build_command(aport, recipe))
    packages = _taken_out(root, recipe, output, said, keys)
    for package, files in packages:
        if not files:
            raise postcheck.empty(package.name, recipe.name)
    for program in postcheck.missing(programs, packages[0][1]):
        on_notice(f"/{program} is no program in the package, and run needs it: it is not there, or not executable")
    return tuple(package for package, _ in packages)


def _settings() -> list[aports.Beside]:
    """Return abuild's settings and key, where the build cannot put others in their place.

    The key is nobody's secret: it is made for this one build, no machine trusts it. So it is short, which is quicker.
    """
    return [
        aports.Beside(_USERDIR / "abuild.conf", _SETTINGS.encode()),
        aports.Beside(_KEY, signing.throwaway_pem(_KEY_BITS), mode=0o400, owner=BUILD_USER),
        aports.Beside(_KEY.with_name(f"{_KEY.name}.pub"), b""),
    ]


def _environment(arch: str, *, mtime: int, threads: int, commit: str | None) -> dict[str, str]:
    return {
        **environment(arch, mtime=mtime, threads=threads),
        "ABUILD_USERDIR": str(_USERDIR),
        "ABUILD_LAST_COMMIT": commit or "",
        "PACKAGER": PACKAGER,
        "REPODEST": str(_REPODEST),
        "SRCDEST": str(WORK / "sources"),
    }


def _needed(recipe: Apkbuild) -> list[str]:
    """Return what `abuild -r` would install (its `calcdeps`): compilers always, and what the package depends on."""
    own = {recipe.name, *(word.partition(":")[0] for word in recipe.words("subpackages"))}
    words = [*recipe.words("depends"), *recipe.words("makedepends")]
    return list(dict.fromkeys(["build-base", *(word for word in words if re.split("[<>=~]", word)[0] not in own)]))


def _taken_out(
    root: BuildRoot, recipe: Apkbuild, output: Path, said: Messages, keys: Sequence[Signer]
) -> list[tuple[Package, tuple[PackageFile, ...]]]:
    """Copy the packages that the aport is to make to `output`, sign and read them; the main one is the first.

    Nothing else is taken: the directory was the build's to write into.
    """
    names = [recipe.name, *(word.partition(":")[0] for word in recipe.words("subpackages"))]
    wanted = {f"{name}-{recipe.version}.apk": name for name in names}
    found = set()
    with root.copy_out(_REPODEST) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            name = PurePosixPath(entry.name).name
            content = tar.extractfile(entry) if entry.isreg() else None
            if name in wanted and content is not None:
                with writing(output), (output / name).open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                found.add(name)
    if missing := [name for name in wanted if name not in found]:
        raise BuildError(f"abuild ended well and made no {missing[0]}", hint=said.last_lines)
    return [_signed(output / file, name, recipe, root.arch, keys) for file, name in wanted.items()]


def _signed(
    path: Path, name: str, recipe: Apkbuild, machine: str, keys: Sequence[Signer]
) -> tuple[Package, tuple[PackageFile, ...]]:
    try:
        resign(path, keys)
        control, files = read_package(path)
    except UsageError as error:
        raise BuildError(f"what abuild made is no package: {error.message}", hint=error.hint) from error
    metadata = control.metadata
    if (metadata.pkgname, metadata.pkgver) != (name, recipe.version):
        raise BuildError(f"{path.name} calls itself {metadata.pkgname}-{metadata.pkgver}: the build changed it")
    if metadata.arch not in (machine, "noarch"):
        raise BuildError(f"{path.name} says that it is for {metadata.arch}: the build changed it")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Package(name, recipe.version, metadata.arch, path, control.size, sha256), files

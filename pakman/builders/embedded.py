"""The embedded builder: runs the functions of an APKBUILD in the build root's shell, and packs as abuild does.

The root sees the aport and nothing else; packing and signing happen outside of it, where the key is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pakman.apk import tar
from pakman.apk.metadata import Metadata
from pakman.apk.package import Package
from pakman.apk.signature import Signer
from pakman.apk.tree import Entry, Tree
from pakman.apk.write import write_package
from pakman.builders import aport as aports
from pakman.builders import ownership, postcheck
from pakman.builders.apkbuild import Apkbuild
from pakman.builders.driver import PACKAGER, PKGBASEDIR, Driver, compiling, environment
from pakman.buildroots import AddPackages, BuildRoot


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
    """Build the aport in an entered root and write its packages to the directory `output`.

    `mtime` (seconds since 1970) is every file's time and the build date. `programs` are paths that the package is
    expected to hold; a notice says which it does not. `add_packages` is used in place of the root's own.
    An empty result: `arch` leaves out this architecture. Raises BuildError for what fails, and for what only abuild
    can do.
    """
    told = environment(root.arch, mtime=mtime, threads=threads) | compiling(threads)
    driver = Driver(root, told, on_line)
    aports.copy_in(aport, root)
    recipe = driver.read()
    arch = recipe.arch_on(root.arch)
    if arch is None:
        return ()
    aports.refuse_what_takes_abuild(recipe)
    if not root.confines_root:
        aports.refuse_what_takes_root(recipe)
    aports.verify(aport, recipe)
    (add_packages or root.add_packages)(recipe.words("makedepends"), on_line)
    driver.must("unpack", *recipe.words("source"), user="build")
    driver.must("make-users", user="root")
    # Read now: afterwards they are what package() made of them.
    users, groups = _names(root, driver, "passwd"), _names(root, driver, "group")
    driver.run("build", "build", aports.build_command(aport, recipe))
    gifts = _package(driver)
    with ExitStack() as trees:
        contents = _contents(root, driver, _metadata(recipe, arch, mtime, commit), recipe, trees)
        for program in postcheck.missing(programs, contents[0].entries):
            on_notice(f"/{program} is no program in the package, and run needs it: it is not there, or not executable")
        if not recipe.has_option("!strip") and _strip(driver, contents, on_notice):
            contents = [replace(content, tree=_tree(root, content.name, trees)) for content in contents]
        if not root.confines_root:
            contents = [
                replace(
                    content,
                    entries=ownership.give(content.tree, content.name, gifts, root.build_user_id, users, groups),
                )
                for content in contents
            ]
        for content in contents:
            postcheck.refuse(content.name, _findings(content, recipe), on_notice)
        return tuple(
            write_package(
                output / f"{content.name}-{recipe.version}.apk",
                content.metadata,
                content.tree,
                scripts=aports.scripts(aport, recipe, content.name),
                # What the build user made and package() copied is root's, as in abuild's fakeroot.
                owners={**users, root.build_user_id: "root"},
                groups={**groups, root.build_group_id: "root"},
                mtime=mtime,
                keys=keys,
                threads=threads,
            )
            for content in contents
        )


@dataclass(frozen=True, slots=True)
class _Content:
    """One package to be: what it says of itself, its tree on this machine, and what is in that."""

    metadata: Metadata
    tree: Path
    entries: Sequence[Entry]
    binaries: Sequence[bytes]
    """Paths of the ELF files that are programs or shared libraries."""

    @property
    def name(self) -> str:
        return self.metadata.pkgname

    @property
    def capable(self) -> set[bytes]:
        """Paths of the files with capabilities: Linux takes these away from a file that is written to."""
        return {entry.path for entry in self.entries if any(key == b"security.capability" for key, _ in entry.xattrs)}


def _package(driver: Driver) -> list[ownership.Gift]:
    """Run package(); return what is left to give away, because who ran it could not."""
    gifts = []

    def on_line(line: str) -> None:
        if gift := ownership.said(line):
            gifts.append(gift)
        else:
            driver.on_line(line)

    replace(driver, on_line=on_line).run("package", driver.packer, "package()")
    return gifts


def _metadata(recipe: Apkbuild, arch: str, mtime: int, commit: str | None) -> list[Metadata]:
    """Return the packages' metadata, the main one's first; the other is what abuild's `default_openrc` makes of it."""
    main = Metadata(
        pkgname=recipe.name,
        pkgver=recipe.version,
        pkgdesc=recipe.variables["pkgdesc"],
        url=recipe.variables["url"],
        builddate=mtime,
        packager=PACKAGER,
        arch=arch,
        origin=recipe.name,
        commit=commit or "",
        maintainer=recipe.variables["maintainer"],
        replaces_priority=recipe.number("replaces_priority"),
        provider_priority=recipe.number("provider_priority"),
        license=recipe.text("license"),
        replaces=recipe.words("replaces"),
        depends=recipe.words("depends"),
        provides=recipe.words("provides"),
        install_if=recipe.words("install_if"),
    )
    if not recipe.words("subpackages"):
        return [main]
    openrc = replace(
        main,
        pkgname=f"{main.pkgname}-openrc",
        pkgdesc=f"{main.pkgdesc} (OpenRC init scripts)",
        arch="noarch",
        depends=recipe.words("depends_openrc"),
        provides=(),
        install_if=("openrc", f"{main.pkgname}={main.pkgver}"),
    )
    return [main, openrc]


def _contents(
    root: BuildRoot, driver: Driver, packages: list[Metadata], recipe: Apkbuild, trees: ExitStack
) -> list[_Content]:
    """Split what package() made, and list it. Raises BuildError where there is nothing for a package."""
    if len(packages) > 1:
        driver.must("split-openrc", user=driver.packer)
    driver.must("tidy", user=driver.packer)
    contents = []
    for metadata in packages:
        tree = _tree(root, metadata.pkgname, trees)
        with Tree(tree) as files:
            entries = files.entries()
            binaries = [entry.path for entry in entries if _is_binary(files, entry)]
        if not entries:
            raise postcheck.empty(metadata.pkgname, recipe.name)
        contents.append(_Content(metadata, tree, entries, binaries))
    return contents


def _tree(root: BuildRoot, package: str, trees: ExitStack) -> Path:
    """Return a package's tree on this machine, as it is now; it is there until `trees` is closed."""
    return trees.enter_context(root.tree(PKGBASEDIR / package))


def _is_binary(files: Tree, entry: Entry) -> bool:
    """Say whether a file is an ELF program or shared library (elf(5): e_type is ET_EXEC or ET_DYN)."""
    if entry.type != tar.FILE or entry.size < 64:
        return False
    with files.opened(entry) as descriptor:
        head = os.read(descriptor, 18)
    number = struct.unpack("<H" if head[5:6] == b"\1" else ">H", head[16:18])[0]
    return head.startswith(b"\x7fELF") and number in (2, 3)


def _strip(driver: Driver, contents: list[_Content], on_notice: Callable[[str], None]) -> bool:
    """Say whether anything was stripped."""
    files = [
        f"{content.name}/{os.fsdecode(path)}"
        for content in contents
        if content.metadata.arch != "noarch"
        for path in content.binaries
        if path not in content.capable
    ]
    if not files:
        return False
    is_stripped = driver.strip(files)
    if not is_stripped:
        on_notice(
            f"not stripped, because the build root has no strip: {files[0]}"
            f"{f' and {len(files) - 1} more' if len(files) > 1 else ''}; "
            "add binutils to dependencies.build, or set build.strip_binary to false"
        )
    return is_stripped


def _findings(content: _Content, recipe: Apkbuild) -> list[postcheck.Finding]:
    noarch = content.metadata.arch == "noarch"
    return postcheck.check(
        content.name, content.entries, options=recipe.words("options"), binaries=content.binaries, noarch=noarch
    )


def _names(root: BuildRoot, driver: Driver, database: str) -> dict[int, str]:
    """Return the names by number of the root's users (passwd) or groups (group)."""
    lines: list[str] = []
    root.call(["cat", f"/etc/{database}"], user="build", env=driver.env, cwd=PurePosixPath("/"), on_line=lines.append)
    fields = [line.split(":") for line in lines]
    return {int(parts[2]): parts[0] for parts in fields if len(parts) > 2 and parts[2].isdigit()}

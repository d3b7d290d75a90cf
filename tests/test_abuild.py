"""What abuild writes becomes lines, notices, and one error that says what happened; who packs is chosen once."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pytest

from pakman.apk.metadata import Metadata
from pakman.builders import abuild, embedded
from pakman.builders.apkbuild import VARIABLES, Apkbuild
from pakman.builders.choice import Builder, builder_for, builder_name
from pakman.builders.messages import Messages
from pakman.buildroots import BuildRoot
from pakman.errors import BuildError
from tests.packages import METADATA, key, pack, small_tree

TREE = "/pakman/work/pkg"
BEGIN = [">>> shop: Validating /pakman/aport/APKBUILD...", "/pakman/aport/shop.build: OK", ">>> shop: Unpacking it..."]
END = ">>> ERROR: shop: rootpkg failed"


def taken(*lines: str) -> tuple[Messages, list[str], list[str]]:
    """Return what has read these lines, what it passed on, and what it warned of."""
    passed_on: list[str] = []
    warned: list[str] = []
    messages = Messages("shop", TREE, passed_on.append, warned.append)
    for line in (*BEGIN, *lines):
        messages.line(line)
    return messages, passed_on[len(BEGIN) :], warned


@pytest.mark.parametrize(
    ("lines", "status", "message", "hint"),
    [
        (
            ["compiling", "no such file", "build.command ended with exit status 7", ">>> ERROR: shop: build failed"],
            1,
            "the build command failed: exit status 7",
            "its last lines:\n  compiling\n  no such file",
        ),
        (
            ["build.command ended with exit status 137", ">>> ERROR: shop: build failed"],
            1,
            "the build command failed: killed by SIGKILL",
            "it wrote nothing",
        ),
        (
            ["cd: no", ">>> ERROR: shop: build failed"],
            1,
            "the build command failed: exit status 1",
            "last lines:\n  cd:",
        ),
        (
            [">>> shop: Entering fakeroot...", "no", ">>> ERROR: shop*: package failed", END],
            1,
            "package() failed: exit status 1",
            "its last lines:\n  no",
        ),
        (
            [
                "/pakman/work/src/shop.build: line 1: tsc: not found",
                "build.command ended with exit status 127",
                ">>> ERROR: shop: build failed",
            ],
            1,
            "the build command failed: exit status 127",
            "the build root has no tsc: add the Alpine package that has it to dependencies.build\nits last lines:",
        ),
        (
            ["build.destinations: 'a b' matches nothing in the built application", ">>> ERROR: shop*: package failed"],
            1,
            "build.destinations: 'a b' matches nothing in the built application",
            "name what build.command leaves behind",
        ),
        (
            [
                ">>> shop*: Running postcheck for shop",
                ">>> ERROR: shop*: Nothing may be under /opt",
                ">>> WARNING: shop*: Found a manual",
                ">>> ERROR: shop*: Found setuid files:",
                f"{TREE}/shop/usr/bin/x",
                f"\t{TREE}/shop-openrc/usr/bin/y",
                ">>> ERROR: shop*: prepare_subpackages failed",
                END,
            ],
            1,
            "abuild failed: postcheck: Nothing may be under /opt; Found setuid files: /usr/bin/x /usr/bin/y",
            "/var/lib/NAME",
        ),
        (
            [*(f">>> ERROR: shop*: reason {n}" for n in range(5)), ">>> ERROR: shop*: prepare_package failed", END],
            1,
            "abuild failed: postcheck: reason 0; reason 1; reason 2 (and 2 more)",
            "",
        ),
        (
            [">>> ERROR: shop-openrc*: Missing subpkgdir for shop-openrc", END],
            1,
            "shop-openrc would be empty: package() installs no init script into /etc/init.d",
            "build.destinations",
        ),
        (
            [">>> ERROR: shop*: libone.so.1: path not found", ">>> ERROR: shop*: create_apks failed", END],
            1,
            "dependencies: shop is linked to libone.so.1, and nothing in the build root has it",
            "dependencies.trace",
        ),
        (
            [
                ">>> shop*: Create shop-1-r0.apk",
                "mkdir: can't create directory '/pakman/work/packages/pakman': Permission denied",
                ">>> ERROR: shop*: create_apks failed",
                END,
            ],
            1,
            "abuild failed: making the .apk files",
            "its last lines:\n  mkdir: can't create directory",
        ),
        ([">>> ERROR: shop: 1.x is not a valid version"], 1, "abuild failed: exit status 1: 1.x is not a valid", ""),
        (["some words"], 137, "abuild failed: killed by SIGKILL", "its last lines:\n  some words"),
    ],
)
def test_a_failure_says_where_and_why(lines: list[str], status: int, message: str, hint: str) -> None:
    error = taken(*lines)[0].failure(status, "the build command")
    assert error.message.startswith(message)
    assert hint in error.hint


def test_lines_are_passed_on_without_colours_and_without_what_the_error_says_anyway() -> None:
    _, passed_on, warned = taken("\x1b[1;32m>>> shop\x1b[1;0m: built", "build.command ended with exit status 1", "\tx")
    assert passed_on == [">>> shop: built", "\tx"]
    assert warned == []


def test_a_warning_is_passed_on_as_one() -> None:
    _, passed_on, warned = taken(f">>> WARNING: shop-openrc*: Found this: {TREE}/shop/usr", "             what to do")
    assert warned == ["Found this: /usr"]
    assert passed_on == [f">>> WARNING: shop-openrc*: Found this: {TREE}/shop/usr", "             what to do"]


def test_what_the_build_writes_is_not_taken_for_abuilds_own_words() -> None:
    messages, _, warned = taken(
        ">>> WARNING: of another kind", "> >>> ERROR: shop: no", ">>> ERROR: shop: build failed"
    )
    assert warned == []
    assert messages.failure(1, "it").hint.splitlines()[1:] == [
        "  >>> WARNING: of another kind",
        "  > >>> ERROR: shop: no",
    ]


@pytest.mark.parametrize(
    ("variables", "needed"),
    [
        ({}, ["build-base"]),
        (
            {"makedepends": "npm build-base npm", "depends": "ruby>=3 shop-openrc=1-r0"},
            ["build-base", "ruby>=3", "npm"],
        ),
        ({"depends": "shop !other curl", "subpackages": "shop-doc"}, ["build-base", "!other", "curl"]),
    ],
)
def test_what_abuild_would_install_is_there(variables: dict[str, str], needed: list[str]) -> None:
    defaults = {"pkgname": "shop", "subpackages": "shop-openrc"}
    recipe = Apkbuild({**dict.fromkeys(VARIABLES, ""), **defaults, **variables}, frozenset())
    assert abuild._needed(recipe) == needed


class Root:
    """A root as far as the choice asks it: whether abuild is there, or can be had."""

    arch = "x86_64"

    def __init__(self, *, has_abuild: bool = False, offers_abuild: bool = False) -> None:
        self.has_abuild = has_abuild
        self.offers_abuild = offers_abuild

    def add_packages(self, words: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Add abuild."""
        assert words == ["abuild"]
        if not self.offers_abuild:
            raise BuildError("the build needs abuild, which is nowhere", hint="check the network")
        on_line("Installing abuild")


@pytest.mark.parametrize(
    ("wanted", "root", "chosen", "lines", "notices"),
    [
        ("auto", Root(has_abuild=True), abuild.build, [], []),
        ("auto", Root(offers_abuild=True), abuild.build, ["Installing abuild"], []),
        (
            "auto",
            Root(),
            embedded.build,
            [],
            ["packed by the embedded builder, because abuild cannot be had: the build needs abuild, which is nowhere"],
        ),
        ("abuild", Root(offers_abuild=True), abuild.build, ["Installing abuild"], []),
        ("embedded", Root(has_abuild=True), embedded.build, [], []),
    ],
)
def test_abuild_packs_wherever_it_can_be_had(
    wanted: Builder, root: Root, chosen: object, lines: list[str], notices: list[str]
) -> None:
    said: list[str] = []
    noticed: list[str] = []
    asked = cast("BuildRoot", root)
    found = builder_for(asked, wanted, root.add_packages, on_line=said.append, on_notice=noticed.append)
    assert (found, said, noticed) == (chosen, lines, notices)
    assert builder_name(found) == ("abuild" if chosen is abuild.build else "embedded")


def test_an_abuild_that_was_asked_for_and_cannot_be_had_is_an_error() -> None:
    root = Root()
    with pytest.raises(BuildError, match="the build needs abuild, which is nowhere") as caught:
        builder_for(cast("BuildRoot", root), "abuild", root.add_packages, on_line=print, on_notice=print)
    assert caught.value.hint == "check the network; or pack without it: --builder embedded"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (replace(METADATA, pkgname="openssl"), "calls itself openssl-1.2.3-r4: the build changed it"),
        (replace(METADATA, pkgver="9-r0"), "calls itself shop-9-r0: the build changed it"),
        (replace(METADATA, arch="../../keys"), "says that it is for ../../keys: the build changed it"),
        (replace(METADATA, arch="aarch64"), "says that it is for aarch64: the build changed it"),
        (replace(METADATA, arch="noarch"), ""),
        (METADATA, ""),
    ],
)
def test_what_is_signed_is_what_was_to_be_built(tmp_path: Path, metadata: Metadata, reason: str) -> None:
    recipe = Apkbuild(dict.fromkeys(VARIABLES, "") | {"pkgname": "shop", "pkgver": "1.2.3", "pkgrel": "4"}, frozenset())
    path = tmp_path / "shop-1.2.3-r4.apk"
    pack(path, small_tree(tmp_path / "tree"), metadata=metadata)
    if not reason:
        assert abuild._signed(path, "shop", recipe, "x86_64", [key()])[0].version == "1.2.3-r4"
        return
    with pytest.raises(BuildError, match=f"^{path.name} {reason}$"):
        abuild._signed(path, "shop", recipe, "x86_64", [key()])


def test_what_a_build_writes_behind_an_error_of_abuilds_is_not_all_kept() -> None:
    messages, _, _ = taken(">>> ERROR: shop: a line of the build's own", *map(str, range(1000)))
    assert messages.last_lines.endswith("  999")
    assert messages.failure(1, "").message.endswith("a line of the build's own 0 1 2")


class Full:
    """A build root whose package finds no room."""

    arch = "x86_64"

    def copy_out(self, directory: PurePosixPath) -> IO[bytes]:
        del directory
        stream = BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            entry = tarfile.TarInfo("pakman/x86_64/shop-1.2.3-r4.apk")
            entry.size = 10
            tar.addfile(entry, BytesIO(bytes(10)))
        stream.seek(0)
        return stream


def test_no_room_for_a_package_is_said_as_that(tmp_path: Path) -> None:
    recipe = Apkbuild(dict.fromkeys(VARIABLES, "") | {"pkgname": "shop", "pkgver": "1.2.3", "pkgrel": "4"}, frozenset())
    (tmp_path / "shop-1.2.3-r4.apk").symlink_to("/dev/full")
    with pytest.raises(BuildError, match=f"^{tmp_path} cannot be written: No space left on device") as caught:
        abuild._taken_out(cast("BuildRoot", Full()), recipe, tmp_path, taken()[0], [key()])
    assert "make room" in caught.value.hint

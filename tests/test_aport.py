"""What the embedded builder refuses in an aport."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pakman.builders import aport
from pakman.builders.apkbuild import VARIABLES, Apkbuild
from pakman.errors import BuildError


def recipe(*functions: str, **variables: str) -> Apkbuild:
    defaults = {"pkgname": "shop", "options": "!tracedeps"}
    return Apkbuild({**dict.fromkeys(VARIABLES, ""), **defaults, **variables}, frozenset(functions or {"package"}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (recipe(options="!strip"), "cannot trace which libraries"),
        (recipe(subpackages="shop-openrc shop-doc"), "splits off shop-openrc and nothing else, not shop-doc"),
        (recipe(subpackages="shop-openrc:mine"), "and nothing else, not shop-openrc:mine"),
        (recipe(source="a.tar https://x.example/b.tar"), "downloads no sources, as https://x.example/b.tar"),
        (recipe(triggers="shop.trigger=/etc"), "knows no triggers, as shop.trigger=/etc"),
        (recipe("package", "prepare"), r"and not prepare\(\)"),
        (recipe("package", "check"), r"and not check\(\)"),
        (recipe("build"), r"package\(\) is missing"),
    ],
)
def test_refuses_what_only_abuild_can_do(wrong: Apkbuild, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        aport.refuse_what_takes_abuild(wrong)


def test_refuses_a_package_script_where_no_root_packs() -> None:
    aport.refuse_what_takes_root(recipe(source="shop-1.tar shop.build"))
    with pytest.raises(BuildError, match="the package script takes root") as caught:
        aport.refuse_what_takes_root(recipe(source="shop-1.tar shop.package"))
    assert caught.value.hint == "use --builder abuild, or --build-root docker"


def test_takes_what_pakman_generates() -> None:
    aport.refuse_what_takes_abuild(
        recipe("build", "package", "check", options="!tracedeps !check", subpackages="shop-openrc", source="a.tar b")
    )


def test_verifies_sources_and_scripts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "shop.pre-install").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "shop-openrc.post-install").write_bytes(b"#!/bin/sh\ntrue\n")
    digest = hashlib.sha512(b"x").hexdigest()
    install = "shop.pre-install shop-openrc.post-install"
    right = recipe(source="a", sha512sums=f"{digest}  a", install=install)
    aport.verify(tmp_path, right)
    assert aport.scripts(tmp_path, right, "shop") == {".pre-install": b"#!/bin/sh\n"}
    assert aport.scripts(tmp_path, right, "shop-openrc") == {".post-install": b"#!/bin/sh\ntrue\n"}
    for wrong, message in (
        (recipe(source="a", sha512sums=f"{digest[::-1]}  a"), "a is not the file that sha512sums"),
        (recipe(source="a"), "a is not the file that sha512sums"),
        (recipe(source="b", sha512sums=f"{digest}  b"), "the source b is not beside it"),
        (recipe(install="shop.post-install"), r"the install script shop\.post-install is not beside it"),
    ):
        with pytest.raises(BuildError, match=message):
            aport.verify(tmp_path, wrong)


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        (None, "build()"),
        ("\n  \n", "build()"),
        ("\nnpm ci\n", "the build command `npm ci`"),
        ("npm ci\nnpm run build\n", "the build command `npm ci …`"),
        ("x" * 200, f"the build command `{'x' * 120} …`"),
    ],
)
def test_shows_the_build_command(tmp_path: Path, script: str | None, shown: str) -> None:
    if script is not None:
        (tmp_path / "shop.build").write_text(script)
    assert aport.build_command(tmp_path, recipe()) == shown

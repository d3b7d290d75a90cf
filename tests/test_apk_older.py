"""The package that came before has the same content, and apk upgrades from it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from pakman.apk.older import write_older
from pakman.apk.package import Package
from pakman.apk.read import read_package
from pakman.apk.signature import signed_by
from pakman.errors import UsageError
from tests.packages import METADATA, key, named, pack, small_tree

NOW, THEN = METADATA.pkgver, "1.2.3-r3"
MAIN = replace(
    METADATA,
    depends=(f"shop-openrc={NOW}", f"other={NOW}", "curl>=8", "!shop-old", "so:libc.musl-x86_64.so.1"),
    provides=(f"cmd:shop={NOW}", "so:libshop.so.1=1.0", "webshop"),
    install_if=(f"shop-openrc={NOW}", "openrc"),
    replaces=("shop-old<2",),
    triggers=("/usr/share/shop",),
    maintainer="Ada <ada@example.com>",
    provider_priority=10,
)
SCRIPTS = {".post-install": b"#!/bin/sh\ntrue\n", ".trigger": b"#!/bin/sh\n"}


def made(tmp_path: Path) -> tuple[Package, ...]:
    tree = small_tree(tmp_path / "tree")
    main = pack(tmp_path / f"shop-{NOW}.apk", tree, metadata=MAIN, scripts=SCRIPTS)
    (tmp_path / "openrc/etc/init.d").mkdir(parents=True)
    (tmp_path / "openrc/etc/init.d/shop").write_text("#!/sbin/openrc-run\n")
    part = replace(METADATA, pkgname="shop-openrc")
    (tmp_path / "older").mkdir()
    return main, pack(tmp_path / f"shop-openrc-{NOW}.apk", tmp_path / "openrc", metadata=part)


def test_only_the_version_is_another(tmp_path: Path) -> None:
    packages = made(tmp_path)
    own = key("previous.rsa.pub")
    older = write_older(packages, tmp_path / "older", [own])
    assert [each.path.name for each in older] == [f"shop-{THEN}.apk", f"shop-openrc-{THEN}.apk"]
    for before, after in zip(older, packages, strict=True):
        (control, files), (control_now, files_now) = read_package(before.path), read_package(after.path)
        assert files == files_now
        assert control.scripts == control_now.scripts
        assert control.metadata.datahash == control_now.metadata.datahash
        assert signed_by(own.public_key(), control.signatures, control.digests) is not None
        assert (before.name, before.version, before.arch) == (after.name, THEN, after.arch)
        assert before.size == before.path.stat().st_size
    assert replace(read_package(older[0].path)[0].metadata, size=0, datahash="") == replace(
        MAIN,
        pkgver=THEN,
        depends=(f"shop-openrc={THEN}", f"other={NOW}", "curl>=8", "!shop-old", "so:libc.musl-x86_64.so.1", "/bin/sh"),
        provides=(f"cmd:shop={THEN}", "so:libshop.so.1=1.0", "webshop"),
        install_if=(f"shop-openrc={THEN}", "openrc"),
    )


def test_a_release_of_zero_gets_a_version_below_it(tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    package = pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree"), metadata=named("shop", "1.2-r0"))
    assert [each.version for each in write_older([package], tmp_path / "older", [key()])] == ["1.2_alpha-r0"]


def test_a_large_package_is_never_in_memory(tmp_path: Path) -> None:
    package = pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree"))
    # What is behind its control segment is copied, whatever it is.
    with package.path.open("ab") as file:
        file.write(bytes(64 << 20))
    (tmp_path / "older").mkdir()
    tracemalloc.start()
    try:
        (older,) = write_older([package], tmp_path / "older", [key()])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert older.size > 64 << 20


def test_what_is_no_package_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.apk").write_text("no package")
    with pytest.raises(UsageError, match="is not a package"):
        write_older([Package("x", "1-r0", "x86_64", tmp_path / "x.apk", 0, "")], tmp_path, [key()])

"""Packages made for tests: a key made once, a small tree, one call that packs."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pakman import signing
from pakman.apk.metadata import Metadata
from pakman.apk.package import Package
from pakman.apk.write import write_package

MTIME = 1_700_000_000
METADATA = Metadata(
    pkgname="shop",
    pkgver="1.2.3-r4",
    pkgdesc="A shop that sells things",
    url="https://example.com/shop",
    builddate=MTIME,
    arch="x86_64",
    origin="shop",
    commit="0123456789abcdef0123456789abcdef01234567",
    license="MIT",
)


def key(name: str = "acme-shop.rsa.pub") -> signing.SigningKey:
    """Return a key, always the same one under one name."""
    return _key(name)


@functools.cache
def _key(name: str) -> signing.SigningKey:
    return signing.generate(name)


def pack(
    path: Path,
    tree: Path,
    *,
    metadata: Metadata = METADATA,
    scripts: Mapping[str, bytes] | None = None,
    owners: Mapping[int, str] | None = None,
    groups: Mapping[int, str] | None = None,
    threads: int = 1,
    signed_by: signing.SigningKey | None = None,
    previous_key: signing.SigningKey | None = None,
) -> Package:
    """Pack a tree whose files belong to whoever runs the tests, as root's."""
    return write_package(
        path,
        metadata,
        tree,
        scripts=scripts or {},
        owners={os.getuid(): "root"} if owners is None else owners,
        groups={os.getgid(): "root"} if groups is None else groups,
        mtime=MTIME,
        keys=[signed_by or key(), *filter(None, [previous_key])],
        threads=threads,
    )


def named(name: str, version: str = "1.2.3-r4") -> Metadata:
    """Return the sample's metadata under another name."""
    return replace(METADATA, pkgname=name, pkgver=version, origin=name)


def small_tree(root: Path) -> Path:
    """Make a tree with a file, a second name for it, and a link to it."""
    directory = root / "var/lib/shop"
    directory.mkdir(parents=True)
    (directory / "server").write_text("#!/bin/sh\necho listening\n")
    (directory / "server").chmod(0o755)
    (directory / "empty").touch()
    (directory / "twin").hardlink_to(directory / "server")
    (directory / "link").symlink_to("server")
    return root

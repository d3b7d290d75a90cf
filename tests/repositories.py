"""Built repositories for tests: real in shape, any bytes for packages; or real packages with a real index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pakman.apk.index import write_index
from pakman.apk.package import Package
from pakman.repository import BuiltBy, Repository
from pakman.signing import SigningKey
from tests.packages import key as key_called
from tests.packages import named, pack

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def repository(
    directory: Path,
    packages: Mapping[str, bytes],
    *,
    arch: str = "x86_64",
    commit: str | None = COMMIT,
    index: bytes = b"an index",
    key: bytes = b"a public key\n",
    key_name: str = "acme-notes.rsa.pub",
    previous_key_name: str | None = None,
    is_throwaway_key: bool = False,
) -> Repository:
    """Write a repository as `pakman build` leaves it; `packages` has the bytes by the package's name."""
    folder = directory / arch
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, body in packages.items():
        path = folder / f"{name}-1.0.0-r0.apk"
        path.write_bytes(body)
        made.append(Package(name, "1.0.0-r0", arch, path, len(body), hashlib.sha256(body).hexdigest()))
    (folder / "APKINDEX.tar.gz").write_bytes(index)
    (directory / key_name).write_bytes(key)
    if previous_key_name is not None:
        (directory / previous_key_name).write_bytes(b"the previous public key\n")
    built = Repository(
        directory=directory,
        arch=arch,
        owner="acme",
        project="Notes",
        slug="notes",
        commit=commit,
        stack="alpine/3.23",
        key_name=key_name,
        previous_key_name=previous_key_name,
        packages=tuple(made),
        builder=BuiltBy("embedded", "0.1.0"),
        is_throwaway_key=is_throwaway_key,
    )
    built.manifest_file.write_text(built.to_json())
    return built


def signed_repository(
    directory: Path,
    version: str = "1.0.0-r0",
    *,
    arch: str = "x86_64",
    commit: str = COMMIT,
    names: Sequence[str] = ("notes",),
    sizes: Mapping[str, int] | None = None,
    key: SigningKey | None = None,
    previous_key: SigningKey | None = None,
) -> Repository:
    """Write real packages, each with a file that says its version, and their signed index, as `pakman build` does.

    `sizes` has bytes that nothing compresses, by the name of the package that has them, too.
    """
    key = key or key_called("acme-notes.rsa.pub")
    keys = [key, *filter(None, [previous_key])]
    folder, made = directory / arch, []
    folder.mkdir(parents=True)
    for name in names:
        tree = directory / "trees" / name
        share = tree / "usr/share" / name
        share.mkdir(parents=True)
        (share / "version").write_text(version)
        if sizes is not None and name in sizes:
            (share / "bytes").write_bytes(os.urandom(sizes[name]))
        metadata = replace(named(name, version), arch=arch, commit=commit, origin=names[0])
        path = folder / f"{name}-{version}.apk"
        made.append(pack(path, tree, metadata=metadata, signed_by=key, previous_key=previous_key))
    for each in keys:
        (directory / each.name).write_bytes(each.public_pem)
    built = Repository(
        directory=directory,
        arch=arch,
        owner="acme",
        project="Notes",
        slug="notes",
        commit=commit,
        stack="alpine/3.23",
        key_name=key.name,
        previous_key_name=previous_key.name if previous_key is not None else None,
        packages=tuple(made),
        builder=BuiltBy("embedded", "0.1.0"),
    )
    write_index(built.index, [each.path for each in made], keys, f"acme/Notes {version}")
    built.manifest_file.write_text(built.to_json())
    return built

"""Built repositories for tests: real in shape, any bytes for packages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pakman.apk.package import Package
from pakman.repository import BuiltBy, Repository

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
    built = Repository(
        directory=directory,
        arch=arch,
        owner="acme",
        project="Notes",
        slug="notes",
        commit=commit,
        stack="alpine/3.23",
        key_name=key_name,
        packages=tuple(made),
        builder=BuiltBy("embedded", "0.1.0"),
        is_throwaway_key=is_throwaway_key,
    )
    built.manifest_file.write_text(built.to_json())
    return built

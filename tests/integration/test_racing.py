"""Many at once: nothing is lost, and whoever reads meanwhile never sees an index that names what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import AlpineRoot
from tests.packages import key as key_called
from tests.processes import start
from tests.readers import Reader
from tests.repositories import signed_repository
from tests.stores import ARCH, KEY, Store, pem

pytestmark = pytest.mark.s3


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """The signing key's file."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key_called(KEY)))
    return path


@pytest.mark.alpine
def test_sixteen_that_push_at_the_same_time_lose_nothing(
    store: Store, private: Path, tmp_path: Path, alpine_root: AlpineRoot
) -> None:
    versions = [f"1.{number}.0-r0" for number in range(16)]
    built = [
        signed_repository(tmp_path / version, version, arch=ARCH, commit=f"{number:040x}")
        for number, version in enumerate(versions)
    ]
    flags = ("--bucket", str(store.location), "--channel", "stable", "--signing-key", private)
    reader = Reader(store, tmp_path / "read")
    with reader.polling():
        said = [tmp_path / f"{version}.log" for version in versions]
        pushes = [
            start(["push", each.directory, *flags], store.server.env, log)
            for each, log in zip(built, said, strict=True)
        ]
        for push in pushes:
            push.join()
    assert [push.exitcode for push in pushes] == [0] * 16, "".join(log.read_text() for log in said)
    assert reader.looks > 2, "nobody has looked"

    objects = store.objects()
    packages = {f"{ARCH}/{each.packages[0].path.name}": each.packages[0] for each in built}
    sums = "".join(f"{packages[name].sha256}  {name}\n" for name in sorted(packages))
    assert objects["channels/stable/SHA256SUMS"].decode() == sums
    assert objects[f"channels/stable/latest/{ARCH}/notes.apk"] == built[-1].packages[0].path.read_bytes()

    (alpine_root.path / "etc/apk/keys" / KEY).write_bytes(key_called(KEY).public_pem)
    address = f"{store.server.endpoint}/{store.location.name}/{store.location.prefix}/channels/stable"
    (alpine_root.path / "etc/apk/repositories").write_text(f"{address}\n")
    found = alpine_root.sh("apk update --quiet; apk search --exact --all notes").split()
    assert sorted(found) == sorted(f"notes-{version}" for version in versions)

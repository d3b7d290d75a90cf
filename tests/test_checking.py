"""A package is compared with all that its index says of it."""

from __future__ import annotations

import errno
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from pakman.apk.index import Stanza, package_stanza
from pakman.bucket import Bucket, Location
from pakman.channels import checking
from pakman.errors import BucketError
from tests.packages import METADATA, key, pack, small_tree

TRUSTED = [key().public_key()]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package."""
    return pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree")).path


def changed(stanza: Stanza, letter: str, value: str) -> Stanza:
    """Return an entry with another value of one field."""
    lines = [f"{letter}:{value}" if line[:2] == f"{letter}:" else line for line in stanza.text.split("\n")]
    return Stanza("\n".join(lines))


def test_a_package_is_what_its_index_says(package: Path) -> None:
    assert checking.problems(package, package_stanza(package), TRUSTED) == []


@pytest.mark.parametrize(
    ("letter", "value", "problem"),
    [
        ("P", "shed", "is 'shop' '1.2.3-r4', not shed 1.2.3-r4"),
        ("V", "1.2.4-r0", "is 'shop' '1.2.3-r4', not shop 1.2.4-r0"),
        ("A", "aarch64", "is for 'x86_64', not for aarch64"),
        ("C", f"Q1{'A' * 27}=", "is another build than its index names: "),
        ("S", "12", "has "),
    ],
)
def test_another_package_is_not(package: Path, letter: str, value: str, problem: str) -> None:
    (found,) = checking.problems(package, changed(package_stanza(package), letter, value), TRUSTED)
    assert found.startswith(problem)


def test_a_package_that_somebody_changed_or_signed_is_not(package: Path, tmp_path: Path) -> None:
    stanza = package_stanza(package)
    (found,) = checking.problems(package, stanza, [key("other.rsa.pub").public_key()])
    assert found == "is signed by acme-shop.rsa.pub, which is none of the keys that are trusted here"
    body = bytearray(package.read_bytes())
    body[-20] ^= 1
    package.write_bytes(bytes(body))
    (found,) = checking.problems(package, stanza, TRUSTED)
    assert str(tmp_path) not in found


def test_a_package_for_any_architecture_is_for_this_one(tmp_path: Path) -> None:
    path = pack(tmp_path / "any.apk", small_tree(tmp_path / "tree"), metadata=replace(METADATA, arch="noarch")).path
    assert checking.problems(path, changed(package_stanza(path), "A", "x86_64"), TRUSTED) == []


def test_packages_need_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(BucketError, match="there is no room for the packages that are fetched"), checking.folder():
        pass


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Bucket, "download", full)
    bucket = Bucket(Location("demo", "apk"), endpoint_url="http://127.0.0.1:1", env={})
    with pytest.raises(BucketError, match=r"apk/x in s3://demo/apk cannot be fetched to .*: No space left") as caught:
        checking.fetch(bucket, "apk/x", tmp_path / "x", 1, lambda _count: None)
    assert "TMPDIR" in caught.value.hint

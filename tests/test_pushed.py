"""What was pushed is fetched as it was, or not at all; the bucket is a folder here."""

from __future__ import annotations

import dataclasses
import errno
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO

import pytest

from pakman import release
from pakman.apk.index import Stanza, read_index, write_index, write_stanzas
from pakman.apk.signature import resign
from pakman.bucket import Bucket, Held, Location, Stored
from pakman.errors import BucketError
from pakman.pushed import Commit, Pushed, fetch
from pakman.repository import Repository
from tests.packages import key as key_called
from tests.repositories import COMMIT, signed_repository

KEY = "acme-notes.rsa.pub"
FOLDER = f"apk/deployments/acme/notes/{COMMIT}"
BOTH = ("aarch64", "x86_64")


class Folder(Bucket):
    """A bucket whose objects are files below a folder."""

    def __init__(self, top: Path) -> None:
        super().__init__(Location("demo", "apk"), endpoint_url="http://127.0.0.1:1", env={})
        self.top = top

    def list(self, prefix: str, *, most: int | None = None) -> dict[str, Stored]:
        files = {str(path.relative_to(self.top)): path for path in self.top.rglob("*") if path.is_file()}
        return {key: Stored(path.stat().st_size, "") for key, path in files.items() if key.startswith(prefix)}

    def read(self, key: str, most: int) -> Held | None:
        path = self.top / key
        return Held(path.read_bytes()[: most + 1], "", 0) if path.exists() else None

    def download(self, key: str, file: IO[bytes], most: int, on_bytes: object = None) -> None:
        file.write((self.top / key).read_bytes()[:most])


@pytest.fixture
def bucket(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "bucket")


def pushed(bucket: Folder, *built: Repository) -> None:
    """Put there what a push would."""
    for each in built:
        folder = bucket.top / FOLDER / each.arch
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(each.index.parent, folder)
        (bucket.top / "apk/keys").mkdir(exist_ok=True)
        for file in each.public_keys:
            shutil.copy(file, bucket.top / "apk/keys")


def built(tmp_path: Path, arch: str, **more: object) -> Repository:
    return signed_repository(tmp_path / "built" / arch, arch=arch, names=("notes", "notes-openrc"), **more)  # type: ignore[arg-type]


def fetched(bucket: Folder, tmp_path: Path, *expected: str) -> Pushed:
    return fetch(bucket, Commit("acme", "notes", COMMIT), expected or BOTH, tmp_path / "fetched")


def refused(bucket: Folder, tmp_path: Path) -> str:
    with pytest.raises(BucketError) as caught:
        fetched(bucket, tmp_path)
    assert str(tmp_path) not in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_what_was_pushed_is_here_as_it_was_built(bucket: Folder, tmp_path: Path) -> None:
    made = [built(tmp_path, arch) for arch in BOTH]
    pushed(bucket, *made)
    found = fetched(bucket, tmp_path)
    assert found.more == ()
    for ours, theirs in zip(made, found.repositories, strict=True):
        assert theirs.to_json() == ours.to_json()
        for before, after in zip(
            (ours.index, ours.public_key, *(each.path for each in ours.packages)),
            (theirs.index, theirs.public_key, *(each.path for each in theirs.packages)),
            strict=True,
        ):
            assert before.name == after.name
            assert before.read_bytes() == after.read_bytes()


def test_while_keys_are_rotated_both_are_here(bucket: Folder, tmp_path: Path) -> None:
    new, old = key_called("acme-notes-5f3a9c01.rsa.pub"), key_called(KEY)
    made = [built(tmp_path, arch, key=new, previous_key=old) for arch in BOTH]
    pushed(bucket, *made)
    for each in fetched(bucket, tmp_path).repositories:
        assert [path.read_bytes() for path in each.public_keys] == [new.public_pem, old.public_pem]
    # What packages.json says of them, both have done.
    shutil.rmtree(tmp_path / "fetched")
    resign(made[0].packages[0].path, [new])
    agree(made[0], 0)
    resign(made[0].index, [new, old])
    pushed(bucket, *made)
    assert f"notes-1.0.0-r0.apk is not signed with {old.name}, as its index is" in refused(bucket, tmp_path)
    shutil.rmtree(tmp_path / "fetched")
    resign(made[0].index, [new])
    pushed(bucket, *made)
    assert f"APKINDEX.tar.gz is not signed with {old.name}, as packages.json says it is" in refused(bucket, tmp_path)


def test_what_is_not_expected_is_named_and_left_out(bucket: Folder, tmp_path: Path) -> None:
    pushed(bucket, *(built(tmp_path, arch) for arch in BOTH))
    found = fetched(bucket, tmp_path, "x86_64")
    assert [each.arch for each in found.repositories] == ["x86_64"]
    assert found.more == ("aarch64",)


def test_what_is_missing_is_named_with_what_is_there(bucket: Folder, tmp_path: Path) -> None:
    where = f"{FOLDER} in s3://demo/apk"
    assert refused(bucket, tmp_path) == f"{where} has no packages for aarch64 and x86_64 yet"
    pushed(bucket, built(tmp_path, "x86_64"))
    assert refused(bucket, tmp_path) == f"{where} has packages for x86_64, but none for aarch64 yet"
    # An index comes last: until then an architecture has not arrived.
    pushed(bucket, built(tmp_path, "aarch64"))
    (bucket.top / FOLDER / "aarch64/APKINDEX.tar.gz").unlink()
    assert refused(bucket, tmp_path).endswith("yet (of aarch64 a part: the index, which comes last, is missing)")


def test_a_key_that_is_gone_is_named(bucket: Folder, tmp_path: Path) -> None:
    pushed(bucket, *(built(tmp_path, arch) for arch in BOTH))
    (bucket.top / "apk/keys" / KEY).unlink()
    assert refused(bucket, tmp_path) == f"apk/keys/{KEY} in s3://demo/apk is not there"


def test_a_full_disk_is_one_sentence(bucket: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pushed(bucket, *(built(tmp_path, arch) for arch in BOTH))
    monkeypatch.setattr(Folder, "download", full)
    with pytest.raises(BucketError, match=r"s3://demo/apk cannot be fetched to .*: No space left on device") as caught:
        fetched(bucket, tmp_path)
    assert "TMPDIR" in caught.value.hint


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"version": "1.0.0-r1"}, "the version is 1.0.0-r0 for aarch64, but 1.0.0-r1 for x86_64"),
        ({"key": "acme-notes-2.rsa.pub"}, f"the signing key is {KEY} for aarch64, but acme-notes-2.rsa.pub for x86_64"),
        ({"previous_key": "old.rsa.pub"}, "the previous signing key is none for aarch64, but old.rsa.pub for x86_64"),
    ],
    ids=["version", "key", "previous"],
)
def test_a_release_is_of_one_kind(bucket: Folder, tmp_path: Path, more: dict[str, str], sentence: str) -> None:
    made = {name: key_called(value) if "key" in name else value for name, value in more.items()}
    pushed(bucket, built(tmp_path, "aarch64"), built(tmp_path, "x86_64", **made))
    found = fetched(bucket, tmp_path)
    with pytest.raises(BucketError, match=re.escape(sentence)) as caught:
        release.release(bucket, found.repositories, tmp_path)
    assert caught.value.message.startswith(f"the architectures of {COMMIT} are not of one release")


def test_a_time_that_is_none_is_passed_over(tmp_path: Path) -> None:
    one = built(tmp_path, "x86_64")
    first, second = read_index(one.index).stanzas
    far = Stanza(first.text.replace(f"\nt:{first.field('t')}\n", f"\nt:{'9' * 5000}\n"))
    write_stanzas(one.index, [far, second], [key_called(KEY)], "far")
    assert release._time([one]) == "2023-11-14T22:13:20Z"


Change = Callable[[Repository], None]


def bytes_of_a_package(one: Repository) -> None:
    path = one.packages[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def size_of_a_package(one: Repository) -> None:
    one.packages[1].path.write_bytes(b"x")


def a_package_is_gone(one: Repository) -> None:
    one.packages[0].path.unlink()


def the_key_of_the_index(one: Repository) -> None:
    write_index(one.index, [each.path for each in one.packages], [key_called("another")], "another")


def the_packages_of_the_index(one: Repository) -> None:
    write_index(one.index, [one.packages[0].path], [key_called(KEY)], "half")


def no_manifest(one: Repository) -> None:
    one.manifest_file.unlink()


def manifest_of_another_commit(one: Repository) -> None:
    rewrite(dataclasses.replace(one, commit="f" * 40))


def manifest_without_packages(one: Repository) -> None:
    rewrite(dataclasses.replace(one, packages=()))


def manifest_that_is_none(one: Repository) -> None:
    one.manifest_file.write_text("{}")


def manifest_that_leads_elsewhere(one: Repository) -> None:
    text = one.manifest_file.read_text().replace('"notes"', '"../notes"', 1)
    one.manifest_file.write_text(text)


def the_architecture_of_a_package(one: Repository) -> None:
    first, *others = one.packages
    rewrite(dataclasses.replace(one, packages=(dataclasses.replace(first, arch="noarch"), *others)))


def the_signature_of_a_package(one: Repository) -> None:
    resign(one.packages[0].path, [key_called("another")])
    agree(one, 0)


def the_data_of_a_package(one: Repository) -> None:
    bytes_of_a_package(one)
    agree(one, 0)


def another_package(one: Repository) -> None:
    path = one.packages[1].path
    path.write_bytes(one.packages[0].path.read_bytes())
    agree(one, 1)


def agree(one: Repository, number: int) -> None:
    """Let packages.json say of a package what its file is now, and the index what its size is."""
    package = one.packages[number]
    body = package.path.read_bytes()
    changed = dataclasses.replace(package, size=len(body), sha256=sha256(body).hexdigest())
    rewrite(dataclasses.replace(one, packages=(*one.packages[:number], changed, *one.packages[number + 1 :])))
    sized = [
        Stanza(
            each.text.replace(f"\nS:{package.size}\n", f"\nS:{len(body)}\n") if each.name == package.name else each.text
        )
        for each in read_index(one.index).stanzas
    ]
    write_stanzas(one.index, sized, [key_called(KEY)], "agreed")


def rewrite(one: Repository) -> None:
    one.manifest_file.write_text(one.to_json())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (bytes_of_a_package, "notes-1.0.0-r0.apk has another size or SHA-256 than packages.json says"),
        (size_of_a_package, "notes-openrc-1.0.0-r0.apk has another size or SHA-256 than packages.json says"),
        (a_package_is_gone, "notes-1.0.0-r0.apk is missing, though its index names it"),
        (the_key_of_the_index, f"APKINDEX.tar.gz is not signed with {KEY}"),
        (the_packages_of_the_index, "APKINDEX.tar.gz and packages.json name different packages"),
        (no_manifest, "aarch64 in s3://demo/apk has no packages.json"),
        (manifest_of_another_commit, f"packages.json is of acme/notes {'f' * 40} for aarch64, not of what it lies in"),
        (manifest_without_packages, "aarch64/packages.json names no packages"),
        (manifest_that_is_none, "packages.json is not what `pakman build` writes ('arch' is missing)"),
        (manifest_that_leads_elsewhere, "'../notes' is not a name"),
        (the_architecture_of_a_package, "notes-1.0.0-r0.apk is for aarch64, but packages.json says noarch"),
        (the_signature_of_a_package, f"notes-1.0.0-r0.apk is not signed with {KEY}, as its index is"),
        (the_data_of_a_package, "notes-1.0.0-r0.apk has been changed: its data is not what its control segment says"),
        (another_package, "notes-openrc-1.0.0-r0.apk is not the package that its index names"),
    ],
)
def test_what_is_not_as_it_was_pushed_is_not_taken(
    bucket: Folder, tmp_path: Path, change: Change, sentence: str
) -> None:
    other = built(tmp_path, "aarch64")
    pushed(bucket, built(tmp_path, "x86_64"), other)
    change(other)
    pushed(bucket, other)
    assert sentence in refused(bucket, tmp_path)

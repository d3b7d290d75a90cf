"""The archive's bytes, without a server."""

from __future__ import annotations

import errno
import tracemalloc
import zipfile
from pathlib import Path
from typing import IO

import pytest

from pakman import archive
from pakman.bucket import Bucket, Location, Stored
from pakman.errors import BucketError, DeploymentError

BLOCK = b"x" * (1 << 20)


class Zeros(Bucket):
    """A bucket whose objects are as large as one asks."""

    def __init__(self, actual: int | None = None) -> None:
        super().__init__(Location("demo"), endpoint_url="http://127.0.0.1:1", env={})
        self.actual = actual

    def download(self, key: str, file: IO[bytes], most: int, on_bytes: object = None) -> None:
        left = most if self.actual is None else self.actual
        while left:
            left -= file.write(BLOCK[:left])


def entry(name: str, size: int) -> archive.Entry:
    return archive.Entry(name, f"deployments/{name}", Stored(size, "etag"))


def written(folder: Path, *entries: archive.Entry, bucket: Bucket | None = None) -> Path:
    file = folder / archive.FILE
    zeros = bucket or Zeros()
    archive._write(entries, file, lambda each, stream: zeros.download(each.key, stream, each.stored.size))
    return file


def test_a_package_is_never_whole_in_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        file = written(tmp_path, entry("x86_64/shop.apk", 64 << 20))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    with zipfile.ZipFile(file) as found:
        assert found.getinfo("x86_64/shop.apk").file_size == 64 << 20


def test_a_package_beyond_four_gigabytes_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = written(tmp_path, entry("x86_64/shop.apk", 5000)).read_bytes()
    # As if zip's numbers ended there.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 4000)
    file = written(tmp_path, entry("x86_64/shop.apk", 5000))
    assert len(file.read_bytes()) > len(plain)
    with zipfile.ZipFile(file) as found:
        assert found.read("x86_64/shop.apk") == BLOCK[:5000]


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [entry("aarch64/shop.apk", 10), entry("x86_64/shop.apk", 2 << 20)]
    assert written(tmp_path, *entries).read_bytes() == written(tmp_path, *entries).read_bytes()


def test_an_object_that_has_changed_is_in_no_archive(tmp_path: Path) -> None:
    with pytest.raises(BucketError, match="has changed meanwhile"):
        written(tmp_path, entry("x86_64/shop.apk", 10), bucket=Zeros(actual=9))


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Zeros, "download", full)
    with pytest.raises(DeploymentError, match="the archive cannot be written: No space left on device") as caught:
        written(tmp_path, entry("x86_64/shop.apk", 10))
    assert "TMPDIR" in caught.value.hint


def test_without_a_folder_for_it_there_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", none)
    with pytest.raises(DeploymentError, match="there is no room for the archive: Permission denied"):
        archive.ship(Zeros(), ())

"""The publication as far as no server is needed: what is refused before anybody is asked."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pakman.bucket import Bucket, Location, Stored
from pakman.errors import BucketError, UsageError
from pakman.publish import publish
from pakman.repository import Repository, read
from tests.repositories import COMMIT, repository

PACKAGES = {"notes": b"a package", "notes-openrc": b"another"}
HUGE = 64 << 30
"""Bytes, none of which a disk has: half a minute goes by until they are read."""


class Unreachable(Bucket):
    """A bucket that nothing is asked of."""

    def __init__(self) -> None:
        super().__init__(Location("demo", "apk"), endpoint_url="http://127.0.0.1:1", env={})

    def list(self, prefix: str) -> dict[str, object]:  # type: ignore[override]
        """Answer without a server."""
        return {}

    def put_new(  # type: ignore[override]
        self, *_: object, before_it_shows: Callable[[], object], **__: object
    ) -> object:
        """Fail: everything is looked at before an object shows."""
        before_it_shows()
        pytest.fail("something was stored")


def refused(repositories: tuple[Repository, ...]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        publish(repositories, Unreachable())
    assert caught.value.hint
    return caught.value


def test_nothing_to_push() -> None:
    assert "there is no repository to push" in refused(()).message


def test_a_repository_without_packages(tmp_path: Path) -> None:
    assert "x86_64 has no packages to push" in refused((repository(tmp_path, {}),)).message


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    error = refused((repository(tmp_path, PACKAGES, commit=None),))
    assert "has no commit" in error.message
    assert "git init" in error.hint
    assert "GITHUB_SHA" in error.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("commit", "f" * 40), ("owner", "other"), ("slug", "other"), ("key_name", "other.rsa.pub"),
        ("previous_key_name", "other.rsa.pub"),
    ],
)  # fmt: skip
def test_two_builds_in_one_directory(tmp_path: Path, field: str, value: str) -> None:
    one = repository(tmp_path, PACKAGES)
    other = repository(tmp_path, PACKAGES, arch="aarch64")
    error = refused((one, dataclasses.replace(other, **{field: value})))  # type: ignore[arg-type]
    assert "holds two builds" in error.message
    assert field.replace("_", " ") in error.message
    assert "for x86_64" in error.message
    assert f"{value} for aarch64" in error.message


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


@pytest.mark.parametrize("harm", [damage, lengthen])
def test_a_package_that_is_not_the_one_that_was_built(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    built = repository(tmp_path, PACKAGES)
    harm(built.packages[1].path)
    error = refused(read(tmp_path))
    assert "notes-openrc-1.0.0-r0.apk is not the file that was built" in error.message


@pytest.mark.parametrize(
    "missing", ["x86_64/notes-1.0.0-r0.apk", "x86_64/APKINDEX.tar.gz", "x86_64/packages.json", "acme-notes.rsa.pub"]
)
def test_a_file_that_is_not_there(tmp_path: Path, missing: str) -> None:
    built = repository(tmp_path, PACKAGES)
    (tmp_path / missing).unlink()
    error = refused((built,))
    assert f"{missing} cannot be read: No such file or directory" in error.message


def test_a_file_that_is_a_directory(tmp_path: Path) -> None:
    built = repository(tmp_path, PACKAGES)
    built.index.unlink()
    built.index.mkdir()
    assert "APKINDEX.tar.gz cannot be read: Is a directory" in refused((built,)).message


@pytest.mark.parametrize("name", ["notes+extra", "no tes", "nötes", "a%2fb"])
def test_a_name_that_does_not_travel_safely(tmp_path: Path, name: str) -> None:
    error = refused((repository(tmp_path, {name: b"a package"}),))
    assert "cannot be part of an object's key" in error.message


@pytest.mark.parametrize(("field", "value"), [("owner", "a b"), ("slug", "a+b"), ("commit", "..")])
def test_a_folder_that_does_not_travel_safely(tmp_path: Path, field: str, value: str) -> None:
    built = dataclasses.replace(repository(tmp_path, PACKAGES), **{field: value})  # type: ignore[arg-type]
    assert "cannot be part of an object's key" in refused((built,)).message


def test_a_refusal_does_not_wait_until_large_packages_are_read(tmp_path: Path) -> None:
    small, huge = repository(tmp_path, PACKAGES).packages
    os.truncate(huge.path, HUGE)
    built = dataclasses.replace(read(tmp_path)[0], packages=(small, dataclasses.replace(huge, size=HUGE)))

    class Full(Unreachable):
        """A bucket that has other bytes in both packages' places: in one as many as ours."""

        def list(self, prefix: str) -> dict[str, object]:  # type: ignore[override]
            folder = f"apk/deployments/acme/notes/{COMMIT}/x86_64"
            return {
                f"{folder}/{small.path.name}": Stored(1, "another"),
                f"{folder}/{huge.path.name}": Stored(HUGE, "another"),
            }

    began = time.monotonic()
    with pytest.raises(BucketError, match=f"{small.path.name} is in s3://demo already, with other bytes"):
        publish((built,), Full())
    # One thread computes a SHA-256 of the other one, another its MD5.
    assert time.monotonic() - began < 10

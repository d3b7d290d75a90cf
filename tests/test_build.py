"""Which root is right for which stack; the builds themselves are in tests/integration/test_build.py."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import cast

import pytest

from pakman import build, stack
from pakman.buildroots import BuildRoot, rootfs
from pakman.errors import BuildError, UsageError
from pakman.repository import MOST_BYTES


class Root:
    def __init__(self, release: str) -> None:
        self.release = release


def refuse(release: str, wanted: str, *, named: bool = True) -> None:
    found = stack.find(wanted)
    assert found is not None
    build._refuse_another_release(cast("BuildRoot", Root(release)), found, named=named)


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("3.23.6", "alpine/3.23"),
        ("3.23", "alpine/3.23"),
        ("3.23.0_rc1", "alpine/3.23"),
        ("3.24_alpha20260127", "alpine/edge"),
        ("3.24.0_alpha20260127", "alpine/edge"),
    ],
)
def test_a_root_of_the_stack(release: str, wanted: str) -> None:
    refuse(release, wanted)


@pytest.mark.parametrize(
    ("release", "wanted", "own"),
    [
        ("3.23.6", "alpine/3.24", "alpine/3.23"),
        ("3.2.3", "alpine/3.23", "alpine/3.2"),
        ("3.23.6", "alpine/edge", "alpine/3.23"),
        ("3.24.0_alpha20260127", "alpine/3.24", "alpine/edge"),
    ],
)
def test_a_root_of_another_stack(release: str, wanted: str, own: str) -> None:
    with pytest.raises(BuildError, match=f"stack is {wanted}, but the build root is Alpine {release}") as caught:
        refuse(release, wanted)
    # It may be the command line that names the other one.
    assert f"write `stack: {own}` into the manifest, and give no other --stack" in caught.value.hint
    with pytest.raises(BuildError, match=f"names no stack, {wanted} is meant"):
        refuse(release, wanted, named=False)


@pytest.mark.parametrize(
    ("padding", "named"), [(0, {"shop-1.0.0-r0.apk"}), (MOST_BYTES, set())], ids=["ours", "endless"]
)
def test_what_an_earlier_build_says_is_read_no_further_than_one_writes(
    tmp_path: Path, padding: int, named: set[str]
) -> None:
    file = tmp_path / "packages.json"
    file.write_text(" " * padding + '{"packages": [{"file": "x86_64/shop-1.0.0-r0.apk"}]}')
    assert build._earlier_packages(file) == named


def test_packages_go_into_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file is a file, and the repository is a directory") as caught:
        build.refuse_places(tmp_path / "app", tmp_path / "file", tmp_path / "cache")
    assert "--output packages" in caught.value.hint
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "is_archive"),
    [
        (b"", False),
        (b"stack: alpine/3.23\n", False),
        (b"\x1f\x8bx", True),
        (b"\xfd7zXZ\0", True),
        (b"PK\x03\x04", False),
    ],
)
def test_a_root_is_an_archive(tmp_path: Path, content: bytes, is_archive: bool) -> None:
    file = tmp_path / "root.tar.gz"
    file.write_bytes(content)
    with nullcontext() if is_archive else pytest.raises(UsageError, match=r"root\.tar\.gz is no archive"):
        rootfs._refuse_other(file)

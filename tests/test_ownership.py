"""The owners in a package that root has not laid out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pakman.builders import ownership
from pakman.builders.ownership import Gift
from pakman.errors import BuildError


@pytest.mark.parametrize(
    ("line", "gift"),
    [
        (
            "chown -R -h shop:staff /pakman/pkg/shop-openrc/var/lib/shop",
            Gift("shop", "staff", "shop-openrc", b"var/lib/shop"),
        ),
        ("chown -R -h shop:staff /etc", None),
        ("chown: /pakman/pkg/shop/var: Operation not permitted", None),
    ],
)
def test_reads_what_package_gives(line: str, gift: Gift | None) -> None:
    assert ownership.said(line) == gift


def test_what_is_not_the_builds_own_goes_into_no_package(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/file").write_text("x")
    own = os.getuid()
    listed = ownership.give(tmp_path, "shop", [], own, {}, {})
    assert [entry.path for entry in listed] == [b"var", b"var/file"]
    with pytest.raises(BuildError, match="var is not the build's own file, but a hard link to another user's"):
        ownership.give(tmp_path, "shop", [], own + 1, {}, {})

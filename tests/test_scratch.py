"""Directories of one run, removed by the next one where the first was killed."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from pakman import scratch


def test_is_private_and_goes(tmp_path: Path) -> None:
    made = scratch.make(tmp_path, "view-")
    assert (made.path.parent, made.path.stat().st_mode & 0o777) == (tmp_path, 0o700)
    (made.path / "x").mkdir()
    made.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_and_what_lives_stays(tmp_path: Path) -> None:
    (tmp_path / "view-dead").mkdir()
    (tmp_path / "view-file").touch()
    (tmp_path / "other").mkdir()
    removed: list[Path] = []
    first = scratch.make(tmp_path, "view-", before_removal=removed.append)
    second = scratch.make(tmp_path, "view-", before_removal=removed.append)
    assert removed == [tmp_path / "view-dead"]
    assert {path.name for path in tmp_path.iterdir()} == {first.path.name, second.path.name, "view-file", "other"}
    # Let go of, as the kernel does it for a run that is killed.
    first.release()
    scratch.make(tmp_path, "view-", before_removal=removed.append).remove()
    assert removed[1:] == [first.path]
    assert second.path.exists()
    second.remove()


def test_a_link_that_is_named_like_one_leads_to_nothing_that_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mine/folder").mkdir(parents=True)
    (tmp_path / "mine/file").touch()
    output = tmp_path / "output"
    output.mkdir()
    (output / "work-1").symlink_to("../mine")
    scratch.make(output, "work-").remove()
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"folder", "file"}
    assert [path.name for path in output.iterdir()] == ["work-1"]
    # The directory itself may be behind a link.
    (tmp_path / "link").symlink_to("output")
    scratch.make(tmp_path / "link", "work-").remove()


def test_works_where_directories_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = scratch.make(tmp_path, "a-"), scratch.make(tmp_path, "a-")
    assert first.path.exists()
    assert second.path.exists()
    with scratch.locked(tmp_path):
        first.remove()
    second.remove()


def test_a_missing_parent_is_the_callers_affair(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scratch.make(tmp_path / "none", "a-")


def test_what_is_deeper_than_python_recurses_goes(tmp_path: Path) -> None:
    work = scratch.make(tmp_path, "work-")
    killed = scratch.make(tmp_path, "work-")
    for folder in (work, killed):
        here = os.open(folder.path, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("deep", dir_fd=here)
            below = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
    work.remove()
    killed.release()
    scratch.make(tmp_path, "work-").remove()
    assert list(tmp_path.iterdir()) == []

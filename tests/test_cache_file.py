"""A cache's file: whole or dropped, plain files and directories only, written only where something changed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman.buildroots import cache_file
from pakman.buildroots.cache_file import Content, DamagedCacheError, LargeCacheError

FILES = {"npm/a": b"first", "npm/deep/b": b"second"}


def is_npms(entry: tarfile.TarInfo) -> bool:
    return entry.name == "npm" or entry.name.startswith("npm/")


def packed(files: Mapping[str, bytes], *more: tarfile.TarInfo, uid: int = 1000, mtime: int = 0) -> io.BytesIO:
    """Return a tar stream as a build root's tar writes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.uid, entry.mtime = len(content), uid, mtime
            tar.addfile(entry, io.BytesIO(content))
        for entry in more:
            tar.addfile(entry)
    stream.seek(0)
    return stream


def save(path: Path, stream: io.BytesIO, *, prefix: str = "", before: Content | None = None) -> Content:
    return cache_file.save(path, [(prefix, stream)], is_npms, owner=1000, before=before)


def poured(path: Path) -> dict[str, tuple[bytes | None, int]]:
    """Return what a build root would get to unpack: content and mode by name."""
    pipe = io.BytesIO()
    with cache_file.opened(path) as file:
        assert file is not None
        cache_file.checked(file, is_npms)
        cache_file.pour(file, pipe, is_npms)
    pipe.seek(0)
    with tarfile.open(fileobj=pipe) as tar:
        return {
            entry.name: (content.read() if (content := tar.extractfile(entry)) else None, entry.mode) for entry in tar
        }


def link(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.uid, entry.mode = kind, target, 1000, 0o4777
    return entry


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "cache/downloads/builds.tar"
    content = save(path, packed({"a": b"first", "deep/b": b"second"}), prefix="npm")
    assert content.size == 11
    assert poured(path) == {"npm/a": (b"first", 0o644), "npm/deep/b": (b"second", 0o644)}
    with cache_file.opened(path) as file:
        assert file is not None
        assert cache_file.checked(file, is_npms) == content
    assert [each.name for each in path.parent.iterdir()] == ["builds.tar"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_where_only_order_and_times_changed(tmp_path: Path) -> None:
    path = tmp_path / "builds.tar"
    before = save(path, packed(FILES))
    inode = path.stat().st_ino
    again = save(path, packed(dict(reversed(FILES.items())), mtime=99), before=before)
    assert (again, path.stat().st_ino) == (before, inode)
    assert save(path, packed({**FILES, "npm/a": b"FIRST"}), before=before) != before
    assert path.stat().st_ino != inode


def test_nothing_is_written_where_nothing_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "builds.tar", packed({"other/x": b"x"}))
    assert list(tmp_path.iterdir()) == []


HOSTILE = [
    *(link(name, tarfile.REGTYPE) for name in ("/npm/x", "npm/../../x", "..", "../npm/x", "other/x", ".profile")),
    *(link("npm/x", kind, "/etc/passwd") for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)),
    *(link("npm/x", kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE, b"~")),
]


@pytest.mark.parametrize("entry", HOSTILE, ids=lambda entry: f"{entry.name} {entry.type!r}")
def test_only_plain_files_that_are_wanted_get_in_and_out(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    path = tmp_path / "builds.tar"
    content = save(path, packed(FILES, entry))
    assert set(poured(path)) == set(FILES)
    # The same in the file itself, with a sum that is right: whoever made it can add up, too.
    stream = packed(FILES, entry)
    with tarfile.open(fileobj=stream, mode="a") as tar:
        said = tarfile.TarInfo("pakman.sha256")
        said.size = 64
        tar.addfile(said, io.BytesIO(content.sum.encode()))
    path.write_bytes(stream.getvalue())
    assert set(poured(path)) == set(FILES)


def test_modes_are_plain(tmp_path: Path) -> None:
    program, folder = link("npm/x", tarfile.REGTYPE), link("npm/y", tarfile.DIRTYPE)
    save(tmp_path / "builds.tar", packed(FILES, program, folder))
    found = poured(tmp_path / "builds.tar")
    assert (found["npm/x"], found["npm/y"]) == ((b"", 0o755), (None, 0o755))


def test_a_file_with_holes_without_end_is_no_file(tmp_path: Path) -> None:
    # Four bytes that say of themselves that they are an exabyte of zeros.
    header = {"GNU.sparse.major": "0", "GNU.sparse.size": str(1 << 60), "GNU.sparse.map": f"{(1 << 60) - 4},4"}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("npm/holes")
        entry.size, entry.uid, entry.pax_headers = 4, 1000, header
        tar.addfile(entry, io.BytesIO(b"1234"))
    stream.seek(0)
    assert save(tmp_path / "builds.tar", stream).size == 0


def test_what_belongs_to_somebody_else_is_not_taken(tmp_path: Path) -> None:
    # A hard link to a file that only root may read, packed by root.
    assert save(tmp_path / "builds.tar", packed(FILES, uid=0)).size == 0


def test_too_much_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "MOST", 10)
    with pytest.raises(LargeCacheError):
        save(tmp_path / "builds.tar", packed(FILES))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "builds.tar"
    save(path, packed(FILES))
    return path.read_bytes()


def is_damaged(content: bytes) -> bool:
    try:
        cache_file.checked(io.BytesIO(content), is_npms)
    except (DamagedCacheError, LargeCacheError):
        return True
    return False


@given(st.data())
def test_no_damage_is_more_than_damage(whole: bytes, data: st.DataObject) -> None:
    used = len(whole.rstrip(b"\0"))
    where = data.draw(st.integers(0, used - 1))
    junk = data.draw(st.binary(min_size=1, max_size=600))
    changed = whole[:where] + junk + whole[where + len(junk) :]
    # Either it is told, or nothing that counts has changed (an owner's name, a time).
    if not is_damaged(changed):
        with io.BytesIO(changed) as file:
            assert cache_file.checked(file, is_npms) == cache_file.checked(io.BytesIO(whole), is_npms)
    assert is_damaged(whole[:where])


@pytest.mark.parametrize("content", [b"", b"x" * 1000, bytes(10240)])
def test_what_is_no_cache_is_damaged(content: bytes) -> None:
    assert is_damaged(content)


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "link", "folder"):
        with pytest.raises(DamagedCacheError), cache_file.opened(tmp_path / name):
            pass
    with cache_file.opened(tmp_path / "none") as file:
        assert file is None


def test_a_killed_runs_leftover_goes(tmp_path: Path) -> None:
    stale = tmp_path / ".writing-stale"
    stale.mkdir()
    (stale / "builds.tar").write_bytes(b"half")
    save(tmp_path / "builds.tar", packed(FILES))
    assert [each.name for each in tmp_path.iterdir()] == ["builds.tar"]

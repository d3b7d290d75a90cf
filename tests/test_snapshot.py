"""The snapshot: what is in it, and that its bytes depend on nothing else."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman import snapshot
from pakman.errors import BuildError


def taken(
    source: Path, target: Path, *, exclude: Sequence[str] = (), skip: Sequence[Path] = ()
) -> dict[str, tarfile.TarInfo]:
    """Take a snapshot and return its entries below the top directory."""
    digest = snapshot.write(source, target, top="shop-1.0.0", mtime=1_700_000_000, exclude=exclude, skip=skip)
    assert digest == hashlib.sha512(target.read_bytes()).hexdigest()
    with tarfile.open(target) as tar:
        top, *entries = tar.getmembers()
    assert (top.name, top.isdir()) == ("shop-1.0.0", True)
    return {entry.name.removeprefix("shop-1.0.0/"): entry for entry in entries}


def tree(top: Path, *names: str) -> Path:
    """Make empty files; a name with a slash at its end is a directory."""
    for name in names:
        path = top / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return top


def test_holds_files_directories_and_links(tmp_path: Path) -> None:
    source = tree(tmp_path / "app", "bin/", "empty/", ".dotfile", "ünïcode", "n" * 120 + "/" + "m" * 120)
    (source / "bin/run").write_bytes(b"#!/bin/sh\n" * 1000)
    (source / "bin/run").chmod(0o700)
    (source / ".dotfile").chmod(0o666)
    (source / "absolute").symlink_to("/etc/passwd")
    (source / "dangling").symlink_to("./nowhere/../x")
    (source / "twin").hardlink_to(source / "bin/run")
    entries = taken(source, tmp_path / "out.tar")
    assert {name: entry.mode for name, entry in entries.items() if entry.isfile()} == {
        ".dotfile": 0o644,
        "bin/run": 0o755,
        "n" * 120 + "/" + "m" * 120: 0o644,
        "twin": 0o755,
        "ünïcode": 0o644,
    }
    assert entries["absolute"].linkname == "/etc/passwd"
    assert entries["dangling"].linkname == "./nowhere/../x"
    assert (entries["empty"].isdir(), entries["empty"].mode) == (True, 0o755)
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 1_700_000_000)}
    with tarfile.open(tmp_path / "out.tar") as tar:
        content = tar.extractfile("shop-1.0.0/twin")
        assert content is not None
        assert content.read() == b"#!/bin/sh\n" * 1000


def test_same_bytes_whatever_umask_time_order_and_place(tmp_path: Path) -> None:
    digests = []
    for number, (umask, names) in enumerate([(0o077, ["a", "b/c", "b.d"]), (0o002, ["b.d", "b/c", "a"])]):
        source = tmp_path / str(number) / "app"
        before = os.umask(umask)
        try:
            tree(source, *names)
        finally:
            os.umask(before)
        os.utime(source / "a", (number, number))
        taken(source, tmp_path / f"{number}.tar")
        digests.append((tmp_path / f"{number}.tar").read_bytes())
    assert digests[0] == digests[1]


EXCLUDED = [
    (["docs"], {"docs", "docs/a.md"}),
    (["./docs/"], {"docs", "docs/a.md"}),
    (["*.log"], {"x.log"}),
    (["src/*.log"], {"src/y.log"}),
    (["*/*.log"], {"src/y.log"}),
    (["*"], {"docs", "docs/a.md", "src", "src/.env", "src/y.log", "x.log", "[x]"}),
    ([".*"], {".env", ".github", ".github/w.yml"}),
    (["src/.*"], {"src/.env"}),
    (["*/*"], {"docs/a.md", "src/y.log"}),
    (["[[]x]"], {"[x]"}),
    (["nothing", ""], set()),
]


@pytest.mark.parametrize(("exclude", "missing"), EXCLUDED, ids=[" ".join(case[0]) for case in EXCLUDED])
def test_leaves_out_what_is_excluded(tmp_path: Path, exclude: list[str], missing: set[str]) -> None:
    source = tree(
        tmp_path / "app", "docs/a.md", "src/y.log", "src/.env", "x.log", ".env", ".github/w.yml", "[x]"
    )  # fmt: skip
    every = set(taken(source, tmp_path / "all.tar"))
    assert set(taken(source, tmp_path / "out.tar", exclude=exclude)) == every - missing


def test_never_ships_version_control(tmp_path: Path) -> None:
    source = tree(tmp_path / "app", ".git/config", ".apk/x", "sub/.git", "sub/.apk/y", ".gitignore", "a.git")
    assert set(taken(source, tmp_path / "out.tar")) == {".gitignore", "a.git", "sub", "sub/.apk", "sub/.apk/y"}


def test_leaves_out_what_is_to_be_skipped_also_through_a_link(tmp_path: Path) -> None:
    source = tree(tmp_path / "app", "packages/x86_64/a.apk", "key.rsa", "kept", "sub/key.rsa")
    (tmp_path / "link").symlink_to(source)
    skip = [tmp_path / "link/packages", source / "sub/../key.rsa", tmp_path / "elsewhere"]
    assert set(taken(source, tmp_path / "out.tar", skip=skip)) == {"kept", "sub", "sub/key.rsa"}
    assert set(taken(tmp_path / "link", tmp_path / "out.tar", skip=skip)) == {"kept", "sub", "sub/key.rsa"}


def test_says_which_sockets_and_pipes_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tree(tmp_path / "app", "kept")
    os.mkfifo(source / "pipe")
    monkeypatch.chdir(source)  # a socket's path has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("puma.sock")
        said: list[str] = []
        snapshot.write(source, tmp_path / "out.tar", top="a-1", mtime=0, on_skipped=said.append)
    assert said == [
        "pipe is a pipe, and stays out of the build",
        "puma.sock is a socket, and stays out of the build",
    ]


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_file_that_changes_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    source = tree(tmp_path / "app")
    source.mkdir()
    log = source / "growing.log"
    log.write_bytes(b"x" * 3_000_000)
    real = snapshot._read

    def read(file: IO[bytes], size: int, path: Path) -> bytes:
        if change == "grows":
            with log.open("ab") as end:
                end.write(b"y")
        elif change == "shrinks":
            os.truncate(log, 10)
        else:
            os.utime(log, (1, 1))
        return real(file, size, path)

    monkeypatch.setattr(snapshot, "_read", read)
    with pytest.raises(BuildError, match=r"growing\.log changed while the snapshot") as caught:
        taken(source, tmp_path / "out.tar")
    assert "build.exclude" in caught.value.hint


def test_a_file_that_vanishes_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tree(tmp_path / "app", "a", "b")
    real = os.listdir

    def listing(directory: Path) -> list[str]:
        names = real(directory)
        (source / "b").unlink(missing_ok=True)
        return names

    monkeypatch.setattr(os, "listdir", listing)
    with pytest.raises(BuildError, match=r"/b changed while"):
        taken(source, tmp_path / "out.tar")


@pytest.mark.parametrize(("call", "name"), [("open", "secret"), ("listdir", "closed")])
def test_what_cannot_be_read_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    # Not by mode bits: the tests may run as root, who reads everything.
    source = tree(tmp_path / "app", "secret", "closed/")
    real = getattr(os, call)

    def refusing(path: Path, *rest: int) -> object:
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(os, call, refusing)
    with pytest.raises(BuildError, match=f"app/{name} cannot be read: Permission denied"):
        taken(source, tmp_path / "out.tar")


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be written to /dev/full: No space left on device"):
        snapshot.write(tree(tmp_path / "app", "a"), Path("/dev/full"), top="a-1", mtime=0)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..", ".git", ".apk") and len(name.encode()) < 200
)


@given(files=st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6), top=st.just("a-1"))
def test_gives_back_any_file(files: dict[str, bytes], top: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("any")
    for name, content in files.items():
        (source / name).write_bytes(content)
    target = source.parent / f"{source.name}.tar"
    snapshot.write(source, target, top=top, mtime=0)
    with tarfile.open(target) as tar:
        read = {
            entry.name.removeprefix("a-1/"): extracted.read()
            for entry in tar.getmembers()
            if (extracted := tar.extractfile(entry)) is not None
        }
    assert read == files


def test_is_as_deep_as_the_application(tmp_path: Path) -> None:
    names = ["/".join("d" * depth) for depth in range(1, 1201)]
    (tmp_path / "app").mkdir()
    for name in names:
        (tmp_path / "app" / name).mkdir()
    try:
        assert list(taken(tmp_path / "app", tmp_path / "out.tar")) == names
    finally:
        # Deeper than pytest, which removes it otherwise, recurses.
        for name in reversed(names):
            (tmp_path / "app" / name).rmdir()


def test_a_directory_comes_before_what_is_in_it_and_that_before_what_follows(tmp_path: Path) -> None:
    source = tree(tmp_path / "app", "a/b/c", "a/b.c", "a-b", "a.b/c")
    assert list(taken(source, tmp_path / "out.tar")) == ["a", "a/b", "a/b/c", "a/b.c", "a-b", "a.b", "a.b/c"]


def test_a_private_key_stays_out_where_it_is_one_that_signs(tmp_path: Path) -> None:
    source = tree(tmp_path / "app", "keys/", "empty")
    key = b"-----BEGIN PRIVATE KEY-----\nMIIE\n"
    for name, content in {"keys/a": key, "b": key, "c": b"PUBLIC KEY-----", "large": key + bytes(1 << 16)}.items():
        (source / name).write_bytes(content)
    asked: list[tuple[str, bytes]] = []
    said: list[str] = []

    def is_secret(name: str, content: bytes) -> bool:
        asked.append((name, content))
        return name == "a"

    snapshot.write(source, tmp_path / "tar", top="shop", mtime=0, is_secret=is_secret, on_skipped=said.append)
    with tarfile.open(tmp_path / "tar") as tar:
        assert tar.getnames() == ["shop", "shop/b", "shop/c", "shop/empty", "shop/keys", "shop/large"]
        large = tar.extractfile("shop/large")
        assert large is not None
        assert large.read() == key + bytes(1 << 16)
    assert asked == [("b", key), ("a", key)]
    assert said == ["keys/a is a private key that signs packages, and stays out of the build"]


def test_what_a_skipped_link_leads_to_stays_out_too(tmp_path: Path) -> None:
    source = tree(tmp_path / "app", "secret/key.rsa", "secret/kept", "made/packages/x")
    (source / "key.rsa").symlink_to("secret/key.rsa")
    (source / "packages").symlink_to("made/packages")
    skip = [source / "key.rsa", source / "packages"]
    assert set(taken(source, tmp_path / "out.tar", skip=skip)) == {"secret", "secret/kept", "made"}

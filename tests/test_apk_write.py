"""Packing: the same bytes whatever the circumstances, and nothing left behind when it fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import random
import resource
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pakman.apk import tar
from pakman.apk.read import read_control, read_package
from pakman.apk.segments import Segments, compressed
from pakman.apk.write import MAX_SCRIPT, SCRIPTS
from pakman.errors import BuildError
from tests.packages import METADATA, MTIME, key, pack, small_tree


def segments(path: Path) -> list[bytes]:
    """Return what each gzip member of a file holds, by another reader than our own."""
    found = []
    rest = path.read_bytes()
    while rest:
        engine = zlib.decompressobj(31)
        found.append(engine.decompress(rest))
        rest = engine.unused_data
    return found


def test_a_package_is_signature_control_and_data(tmp_path: Path) -> None:
    package = pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree"), scripts={".post-install": b"true\n"})
    signature, control, data = segments(package.path)
    with tarfile.open(fileobj=io.BytesIO(signature)) as archive:
        assert archive.getnames() == [".SIGN.RSA.acme-shop.rsa.pub"]
    with tarfile.open(fileobj=io.BytesIO(control)) as archive:
        assert [(member.name, member.mode) for member in archive] == [(".PKGINFO", 0o644), (".post-install", 0o755)]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(member.name, member.type, member.mtime) for member in archive] == [
            ("var", b"5", MTIME),
            ("var/lib", b"5", MTIME),
            ("var/lib/shop", b"5", MTIME),
            ("var/lib/shop/empty", b"0", MTIME),
            ("var/lib/shop/link", b"2", MTIME),
            ("var/lib/shop/server", b"0", MTIME),
            ("var/lib/shop/twin", b"1", MTIME),
        ]
        server = archive.getmember("var/lib/shop/server")
        content = b"#!/bin/sh\necho listening\n"
        assert server.pax_headers["APK-TOOLS.checksum.SHA1"] == hashlib.sha1(content).hexdigest()
        assert (server.mode, server.uname, server.gname) == (0o755, "root", "root")
        link = archive.getmember("var/lib/shop/link")
        assert link.pax_headers["APK-TOOLS.checksum.SHA1"] == hashlib.sha1(b"server").hexdigest()
    # The archive goes on behind the first two, and ends behind the third.
    assert not signature.endswith(bytes(1024))
    assert not control.endswith(bytes(1024))
    assert data.endswith(bytes(1024))


def test_what_is_returned_is_what_was_written(tmp_path: Path) -> None:
    package = pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree"))
    content = package.path.read_bytes()
    assert (package.name, package.version, package.arch) == ("shop", "1.2.3-r4", "x86_64")
    assert (package.size, package.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert package.path.stat().st_mode & 0o777 == 0o644


def later(tree: Path) -> None:
    for path in tree.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)


def made_in_another_order(tree: Path) -> None:
    files = sorted(tree.glob("many/*"), reverse=True)
    contents = [(file, file.read_bytes()) for file in files]
    for file, _ in contents:
        file.unlink()
    for file, content in contents:
        file.write_bytes(content)


def with_another_umask(tree: Path) -> None:
    del tree
    os.umask(0o077)


def nothing(tree: Path) -> None:
    del tree


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("change", [nothing, later, made_in_another_order, with_another_umask])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_tree_gives_the_same_bytes(tmp_path: Path, change: Callable[[Path], None], threads: int) -> None:
    trees = [small_tree(tmp_path / "here"), small_tree(tmp_path / "there/further/down")]
    for tree in trees:
        (tree / "many").mkdir()
        for number in range(30):
            (tree / f"many/{number}").write_bytes(f"{number}\n".encode() * 20_000)
    first = pack(tmp_path / "first.apk", trees[0])
    change(trees[1])
    second = pack(tmp_path / "second.apk", trees[1], threads=threads)
    assert first.path.read_bytes() == second.path.read_bytes()


@given(st.lists(st.integers(0, 700_000), max_size=6), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_compressing_depends_on_the_bytes_alone(cuts: list[int], threads: int, source: object) -> None:
    content = (b"some text " * 30_000 + os.urandom(400_000) + b"more " * 300_000)[: max(cuts, default=0) * 2]
    places = [0, *sorted(cuts), len(content)]
    pieces = [content[start:end] for start, end in itertools.pairwise(places)]
    member = b"".join(compressed(pieces, threads))
    assert member == b"".join(compressed([content]))
    assert gzip.decompress(member) == content


def test_the_bytes_stay_what_they_are() -> None:
    """A package built today must be the one built last year: compression is part of the format."""
    source = random.Random(7)
    words = [source.randbytes(source.randint(2, 9)) for _ in range(500)]
    content = b" ".join(source.choices(words, k=300_000)) + source.randbytes(300_000)
    digest = hashlib.sha256(b"".join(compressed([content]))).hexdigest()
    assert digest == "63d6349d06bfc75a6af0257c7cb4b33c5227ad87e30a0a383c97ca25dc0030b9"


@pytest.mark.parametrize("size", [0, 1, (512 << 10) - 1, 512 << 10, (512 << 10) + 1, 3 * (512 << 10)])
def test_the_edges_of_blocks(size: int) -> None:
    content = os.urandom(size)
    assert gzip.decompress(b"".join(compressed([content], 2))) == content


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_contents_of_every_size(tmp_path: Path, size: int) -> None:
    (tmp_path / "tree").mkdir()
    content = os.urandom(size)
    (tmp_path / "tree/file").write_bytes(content)
    _, files = read_package(pack(tmp_path / "p.apk", tmp_path / "tree").path)
    assert [(file.path, file.size, file.sha1) for file in files] == [(b"file", size, hashlib.sha1(content).hexdigest())]


NAMES = st.binary(min_size=1, max_size=120).filter(
    lambda name: (
        not any(byte < 0x20 or byte in (0x2F, 0x7F) for byte in name) and name not in (b".", b"..") and name[:1] != b"."
    )
)
LEAVES = st.tuples(st.just("file"), st.binary(max_size=3000), st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2711]))
LINKS = st.tuples(st.just("link"), NAMES)
TREES = st.recursive(
    LEAVES | LINKS,
    lambda inside: st.tuples(st.just("directory"), st.dictionaries(NAMES, inside, max_size=4)),
    max_leaves=12,
)


def make(path: bytes, node: tuple[object, ...]) -> None:
    if node[0] == "directory":
        assert isinstance(node[1], dict)
        os.mkdir(path)  # noqa: PTH102
        for name, inside in node[1].items():
            make(path + b"/" + name, inside)
    elif node[0] == "link":
        assert isinstance(node[1], bytes)
        os.symlink(node[1], path)  # noqa: PTH211
    else:
        assert isinstance(node[1], bytes)
        assert isinstance(node[2], int)
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(node[1])
        os.chmod(path, node[2])  # noqa: PTH101


def listed(prefix: bytes, node: tuple[object, ...]) -> Iterator[tuple[bytes, bytes, object]]:
    if node[0] == "directory":
        assert isinstance(node[1], dict)
        yield prefix, tar.DIRECTORY, None
        for name, inside in node[1].items():
            yield from listed(prefix + b"/" + name, inside)
    elif node[0] == "link":
        yield prefix, tar.SYMLINK, node[1]
    else:
        assert isinstance(node[1], bytes)
        yield prefix, tar.FILE, (hashlib.sha1(node[1]).hexdigest(), node[2])


@given(TREES)
def test_any_tree_is_read_as_it_was_written(node: tuple[object, ...]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        root.mkdir()
        make(os.fsencode(root) + b"/top", node)
        _, files = read_package(pack(Path(directory) / "p.apk", root).path)
        found = [
            (
                each.path,
                each.type,
                {tar.FILE: (each.sha1, each.mode), tar.SYMLINK: each.target, tar.DIRECTORY: None}[each.type],
            )
            for each in files
        ]
        assert found == sorted(listed(b"top", node))


def test_size_counts_a_file_once(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    assert read_control(pack(tmp_path / "p.apk", tree).path).metadata.size == len(b"#!/bin/sh\necho listening\n")


@pytest.mark.parametrize(("make", "scripts", "size"), [(False, {}, 0), (True, {}, 1), (False, {".trigger": b"x"}, 1)])
def test_a_package_without_content_is_not_virtual(
    tmp_path: Path, make: bool, scripts: dict[str, bytes], size: int
) -> None:
    (tmp_path / "tree").mkdir()
    if make:
        (tmp_path / "tree/empty").touch()
    package = pack(tmp_path / "p.apk", tmp_path / "tree", scripts=scripts)
    assert read_control(package.path).metadata.size == size


@pytest.mark.parametrize(
    ("script", "depends", "found"),
    [
        (b"#!/bin/sh\n", (), ("/bin/sh",)),
        (b"#! /bin/sh -e\n", ("musl",), ("musl", "/bin/sh")),
        (b"#!/bin/sh\n", ("busybox>1.30",), ("busybox>1.30",)),
        (b"#!/bin/sh\n", ("/bin/sh",), ("/bin/sh",)),
        (b"#!/usr/bin/lua\n", (), ()),
    ],
)
def test_a_shell_script_needs_a_shell(
    tmp_path: Path, script: bytes, depends: tuple[str, ...], found: tuple[str, ...]
) -> None:
    (tmp_path / "tree").mkdir()
    package = pack(
        tmp_path / "p.apk",
        tmp_path / "tree",
        metadata=replace(METADATA, depends=depends),
        scripts={".post-install": script},
    )
    assert read_control(package.path).metadata.depends == found


def test_owners_go_by_name(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    package = pack(tmp_path / "p.apk", tree, owners={os.getuid(): "shop"}, groups={os.getgid(): "www"})
    with tarfile.open(fileobj=io.BytesIO(segments(package.path)[2])) as archive:
        assert {(member.uname, member.gname, member.uid, member.gid) for member in archive} == {("shop", "www", 0, 0)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"var belongs to user \d+, which has no name in the build root"),
        ("x" * 33, "var belongs to user x{33}, a name longer than 32 bytes"),
    ],
)
def test_an_owner_without_a_name_is_refused(tmp_path: Path, name: str, message: str) -> None:
    tree = small_tree(tmp_path / "tree")
    if os.getuid() == 0:
        os.chown(tree / "var", 4321, 0)
    with pytest.raises(BuildError, match=message):
        pack(tmp_path / "p.apk", tree, owners={(tree / "var").stat().st_uid: name, 0: "root"})


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({".post-explode": b"x"}, ".post-explode is no script that apk runs"),
        ({".post-install": b"x" * (MAX_SCRIPT + 1)}, "apk runs scripts of at most 262144"),
    ],
)
def test_scripts_that_apk_does_not_run_are_refused(tmp_path: Path, scripts: dict[str, bytes], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"), scripts=scripts)


def test_scripts_are_written_in_one_order(tmp_path: Path) -> None:
    scripts = {name: name.encode() for name in reversed(SCRIPTS)}
    package = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"), scripts=scripts)
    assert tuple(read_control(package.path).scripts) == SCRIPTS


def test_metadata_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="pkgdesc holds a line break"):
        pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"), metadata=replace(METADATA, pkgdesc="a\nb"))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """Let no file grow beyond 256 KiB: what a full disk does, without filling one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_package(
    tmp_path: Path, request: pytest.FixtureRequest, threads: int
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(4 << 20))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/p.apk").write_bytes(b"the old one")
    request.getfixturevalue("small_files_only")
    with pytest.raises(BuildError, match=r"out/p.apk cannot be written: File too large") as caught:
        pack(tmp_path / "out/p.apk", tmp_path / "tree", threads=threads)
    assert "make room" in caught.value.hint
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p.apk"]
    assert (tmp_path / "out/p.apk").read_bytes() == b"the old one"


def test_a_directory_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no/p.apk cannot be written: No such file or directory"):
        pack(tmp_path / "no/p.apk", small_tree(tmp_path / "tree"))


def test_a_file_that_shrinks_while_it_is_read_is_one_sentence(tmp_path: Path) -> None:
    """The data segment is written as it is read: the large file is cut when the small one before it is asked for."""
    (tmp_path / "tree").mkdir()
    large = tmp_path / "tree/large"
    large.write_bytes(bytes(3 << 20))

    class Cutting(dict[int, str]):
        """Names every user, and does harm after the tree was listed."""

        def get(self, number: int, default: object = None) -> str:
            os.truncate(large, 1 << 20)
            return "root"

    with pytest.raises(BuildError, match="large changed while it was being packed"):
        pack(tmp_path / "p.apk", tmp_path / "tree", owners=Cutting())
    assert not (tmp_path / "p.apk").exists()


def test_the_signature_is_over_the_control_segment(tmp_path: Path) -> None:
    package = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"))
    with package.path.open("rb") as file:
        reader = Segments(file)
        reader.begin()
        reader.digests()
        reader.begin("sha1")
        digest = reader.digests()["sha1"]
    signature = read_control(package.path).signatures[0]
    assert signature.key_name == key().name
    assert key().public_key().holds(signature.value, "sha1", digest)

"""Indexes: what is written is read, in one order, signed."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pakman.apk import index, tar
from pakman.apk.index import Stanza, package_stanza, read_index, write_index, write_stanzas
from pakman.apk.signature import resign, signed_by
from pakman.errors import BuildError, UsageError
from tests.packages import METADATA, key, named, pack, small_tree


@pytest.fixture
def packages(tmp_path: Path) -> list[Path]:
    tree = small_tree(tmp_path / "tree")
    made = [
        pack(tmp_path / "b.apk", tree, metadata=replace(named("b"), depends=("a", "!c"), provides=("cmd:b=1",))),
        pack(tmp_path / "a-1.apk", tree, metadata=named("a", "1-r0")),
        pack(tmp_path / "a-2.apk", tree, metadata=replace(named("a", "2-r0"), builddate=METADATA.builddate + 5)),
    ]
    return [each.path for each in made]


def test_an_index_names_its_packages_in_order(tmp_path: Path, packages: list[Path]) -> None:
    write_index(tmp_path / "APKINDEX.tar.gz", packages, [key()], "acme/shop 0123456")
    found = read_index(tmp_path / "APKINDEX.tar.gz")
    assert found.description == "acme/shop 0123456"
    assert [(each.name, each.version, each.field("D"), each.field("p")) for each in found.stanzas] == [
        ("a", "1-r0", "", ""),
        ("a", "2-r0", "", ""),
        ("b", "1.2.3-r4", "a !c", "cmd:b=1"),
    ]
    assert [each.field("S") for each in found.stanzas] == [str(packages[number].stat().st_size) for number in (1, 2, 0)]
    assert all(each.checksum.startswith("Q1") and len(each.checksum) == 30 for each in found.stanzas)
    assert signed_by(key().public_key(), found.signatures, found.digests) is not None
    assert signed_by(key("other.rsa.pub").public_key(), found.signatures, found.digests) is None


def test_the_same_packages_give_the_same_bytes(tmp_path: Path, packages: list[Path]) -> None:
    write_index(tmp_path / "one", packages, [key()], "x")
    write_index(tmp_path / "two", [*reversed(packages), packages[0]], [key()], "x")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o644


def test_the_archive_is_apks(tmp_path: Path, packages: list[Path]) -> None:
    write_index(tmp_path / "index", packages, [key()], "x")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress((tmp_path / "index").read_bytes()))) as archive:
        assert [(member.name, member.mtime) for member in archive] == [
            (".SIGN.RSA.acme-shop.rsa.pub", 0),
            ("DESCRIPTION", METADATA.builddate + 5),
            ("APKINDEX", METADATA.builddate + 5),
        ]


def test_stanzas_survive_with_fields_of_the_future(tmp_path: Path) -> None:
    stanza = Stanza("C:Q1=\nP:new\nV:9-r9\nt:7\nz:future\n")
    write_stanzas(tmp_path / "index", [stanza], [key()], "")
    assert read_index(tmp_path / "index").stanzas == (stanza,)


def test_an_index_of_nothing(tmp_path: Path) -> None:
    write_index(tmp_path / "index", [], [key()], "")
    assert read_index(tmp_path / "index").stanzas == ()


def test_an_index_is_signed_again(tmp_path: Path, packages: list[Path]) -> None:
    write_index(tmp_path / "one", packages, [key("throwaway.rsa.pub")], "x")
    write_index(tmp_path / "two", packages, [key()], "x")
    resign(tmp_path / "one", [key()])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_two_keys_sign_an_index_in_one_segment(tmp_path: Path, packages: list[Path]) -> None:
    new, old = key("acme-shop-2.rsa.pub"), key()
    write_index(tmp_path / "index", packages, [new, old], "x")
    found = read_index(tmp_path / "index")
    assert [each.key_name for each in found.signatures] == [new.name, old.name]
    for each, signature in zip((new, old), found.signatures, strict=True):
        assert signed_by(each.public_key(), found.signatures, found.digests) == signature
    write_index(tmp_path / "one", packages, [old], "x")
    resign(tmp_path / "one", [new, old])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "index").read_bytes()


def test_nothing_is_signed_by_nobody(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="what no key signs"):
        write_index(tmp_path / "index", [], [], "")
    assert not (tmp_path / "index").exists()


def test_what_is_no_package_is_not_indexed(tmp_path: Path, packages: list[Path]) -> None:
    (tmp_path / "bad.apk").write_bytes(b"garbage")
    (tmp_path / "index").write_bytes(b"the old one")
    with pytest.raises(UsageError, match=r"bad\.apk is not a package"):
        write_index(tmp_path / "index", [*packages, tmp_path / "bad.apk"], [key()], "x")
    assert (tmp_path / "index").read_bytes() == b"the old one"


def test_a_description_that_apk_would_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="description has 161 bytes; apk reads at most 160"):
        write_stanzas(tmp_path / "index", [], [key()], "x" * 161)


STANZA = b"C:Q1\nP:a\nV:1\n"


def entry(name: bytes, content: bytes) -> bytes:
    header = tar.Header(name=name, type=tar.FILE, mode=0o644, size=len(content))
    return tar.encoded(header) + content + tar.padding(len(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it ends where its content should begin"),
        (b"garbage", "it is not gzip, or damaged"),
        (gzip.compress(b""), "it holds no APKINDEX"),
        (gzip.compress(entry(b".PKGINFO", b"x")), r"it holds \.PKGINFO"),
        (gzip.compress(entry(b"APKINDEX", STANZA))[:-9], "it ends too early|not gzip"),
        (gzip.compress(entry(b"APKINDEX", b"\xff")), "utf-8"),
        (gzip.compress(entry(b"APKINDEX", STANZA)) * 2, "something behind the index"),
        (gzip.compress(entry(b"APKINDEX", STANZA) * 2), "it holds APKINDEX twice"),
        (gzip.compress(entry(b"APKINDEX", STANZA.replace(b"P:a", b"p:a"))), r"number 1 in it has no name \(P:\)"),
        (gzip.compress(entry(b"APKINDEX", STANZA + b"\nP:b\nC:Q1\nv:1\n")), r"number 2 in it has no version \(V:\)"),
        (gzip.compress(entry(b"APKINDEX", STANZA + b"\nP:b\nV:1\n")), r"number 2 in it has no checksum \(C:\)"),
        (gzip.compress(b"x" * 600), "no tar header"),
    ],
    ids=lambda value: "index" if isinstance(value, bytes) else None,
)
def test_what_is_no_index_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "APKINDEX.tar.gz").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_index(tmp_path / "APKINDEX.tar.gz")


def bomb(header: bytes, block: bytes, times: int) -> bytes:
    """Return gzip of a header and a block, over and over."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([engine.compress(header), *(engine.compress(block) for _ in range(times)), engine.flush()])


def passed_over(size: int) -> bytes:
    """Return a header that says something of all others, and its content: apk passes over it."""
    return tar.encoded(tar.Header(name=b"x", type=b"g", mode=0o644, size=size)) + bytes(size) + tar.padding(size)


def signature() -> bytes:
    return tar.encoded(tar.Header(name=b".SIGN.RSA.x", type=tar.FILE, mode=0o644, size=1)) + b"x" + tar.padding(1)


SIGNED = gzip.compress(signature())


def header(size: int) -> bytes:
    return tar.encoded(tar.Header(name=b"APKINDEX", type=tar.FILE, mode=0o644, size=size))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bomb(header(2 << 30), bytes(1 << 20), 200), "it inflates to 2147483648 bytes, where at most 134217728"),
        (bomb(header(len(STANZA)) + STANZA, bytes(1 << 20), 200), "something behind the archive's end"),
        (bomb(header(100 << 20), bytes(1 << 20), 100), "one of its packages has more than 1048576 bytes"),
        (bomb(header(127 << 20), b"\n" * (1 << 20), 3), "ends in the middle of a file"),
        (bomb(b"", passed_over(1 << 20), 200), "inflates to more than the 2097152 bytes"),
        (SIGNED + bomb(b"", passed_over(1 << 20), 200), "inflates to more than the 135266304 bytes"),
        (bomb(signature(), passed_over(1 << 20), 200), "inflates to more than the 2097152 bytes"),
    ],
    ids=["large", "behind", "one", "cut", "passed-over", "passed-over-signed", "passed-over-signature"],
)
def test_a_bomb_is_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "APKINDEX.tar.gz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=message):
            read_index(path)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def numbered(count: int) -> Iterator[Stanza]:
    return (Stanza(f"C:Q1{number:027}=\nP:notes{number % 10}\nV:1.{number}-r0\n") for number in range(count))


def test_a_hundred_thousand_packages_are_read(tmp_path: Path) -> None:
    write_stanzas(tmp_path / "index", numbered(100_000), [key()], "")
    assert len(read_index(tmp_path / "index").stanzas) == 100_000


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stanzas(tmp_path / "index", numbered(1001), [key()], "")
    monkeypatch.setattr(index, "MAX_STANZAS", 1000)
    with pytest.raises(UsageError, match="it lists more than 1000 packages"):
        read_index(tmp_path / "index")
    with pytest.raises(BuildError, match="makes an index of 1001 packages, where at most 1000 are read") as caught:
        write_stanzas(tmp_path / "new", numbered(1001), [key()], "")
    assert "take old versions out" in caught.value.hint
    long = (Stanza(f"C:Q1\nP:notes\nV:{number}\nD:{'x' * 1_000_000}\n") for number in range(135))
    with pytest.raises(BuildError, match=r"index of 1350\d+ bytes, where at most 134217728 are read"):
        write_stanzas(tmp_path / "new", long, [key()], "")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("time", ["", "soon", "-1", "9" * 40, "²"])
def test_a_time_that_is_none_does_not_matter(tmp_path: Path, time: str) -> None:
    write_stanzas(tmp_path / "index", [Stanza(f"C:Q1\nP:a\nV:1\nt:{time}\n")], [key()], "")
    with tarfile.open(tmp_path / "index") as archive:
        assert {member.mtime for member in archive} == {0}


def test_an_index_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_index(tmp_path / "APKINDEX.tar.gz")


def test_a_changed_index_keeps_no_signature(tmp_path: Path, packages: list[Path]) -> None:
    path = tmp_path / "APKINDEX.tar.gz"
    write_index(path, packages, [key()], "x")
    engine = zlib.decompressobj(31)
    content = path.read_bytes()
    engine.decompress(content)
    signature, segment = content[: -len(engine.unused_data)], engine.unused_data
    path.write_bytes(signature + gzip.compress(gzip.decompress(segment).replace(b"P:b\n", b"P:e\n")))
    found = read_index(path)
    assert found.stanzas[-1].name == "e"
    assert signed_by(key().public_key(), found.signatures, found.digests) is None


def test_a_stanza_of_a_file(packages: list[Path]) -> None:
    assert package_stanza(packages[1]).text.startswith("C:Q1")

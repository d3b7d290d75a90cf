"""Reading packages: what is right is read, what is damaged or hostile is refused in one sentence."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman.apk import tar
from pakman.apk.metadata import pkginfo
from pakman.apk.read import read_control, read_package
from pakman.apk.signature import resign, signature_segment, signed_by
from pakman.errors import BuildError, PakmanError, SigningError, UsageError
from tests.packages import METADATA, key, named, pack, small_tree


def member(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def entry(name: bytes, content: bytes = b"", **fields: object) -> bytes:
    header = tar.Header(**{"name": name, "type": tar.FILE, "mode": 0o644, "size": len(content), **fields})  # type: ignore[arg-type]
    return tar.encoded(header) + content + tar.padding(len(content))


def checked(name: bytes, content: bytes) -> bytes:
    return entry(name, content, pax={b"APK-TOOLS.checksum.SHA1": hashlib.sha1(content).hexdigest().encode()})


def package(path: Path, data: bytes, *, control: bytes = b"", behind: bytes = b"") -> Path:
    """Write a signed package whose data segment inflates to these bytes."""
    segment = member(data)
    metadata = replace(METADATA, datahash=hashlib.sha256(segment).hexdigest())
    signed = member(entry(b".PKGINFO", pkginfo(metadata).encode()) + control)
    path.write_bytes(signature_segment([key()], signed) + signed + segment + behind)
    return path


def test_everything_is_read(tmp_path: Path) -> None:
    made = pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree"), scripts={".post-install": b"#!/bin/sh\ntrue\n"})
    control, files = read_package(made.path)
    assert replace(control.metadata, size=0, datahash="", depends=()) == METADATA
    assert control.scripts == {".post-install": b"#!/bin/sh\ntrue\n"}
    assert [(each.path, each.type, each.target) for each in files] == [
        (b"var", tar.DIRECTORY, b""),
        (b"var/lib", tar.DIRECTORY, b""),
        (b"var/lib/shop", tar.DIRECTORY, b""),
        (b"var/lib/shop/empty", tar.FILE, b""),
        (b"var/lib/shop/link", tar.SYMLINK, b"server"),
        (b"var/lib/shop/server", tar.FILE, b""),
        (b"var/lib/shop/twin", tar.HARDLINK, b"var/lib/shop/server"),
    ]
    assert read_control(made.path) == control
    assert signed_by(key().public_key(), control.signatures, control.digests) == control.signatures[0]
    other = key("other.rsa.pub").public_key()
    assert signed_by(other, control.signatures, control.digests) is None


def test_an_unsigned_package_is_read(tmp_path: Path) -> None:
    data = member(tar.END)
    metadata = replace(METADATA, datahash=hashlib.sha256(data).hexdigest())
    (tmp_path / "p.apk").write_bytes(member(entry(b".PKGINFO", pkginfo(metadata).encode())) + data)
    control, files = read_package(tmp_path / "p.apk")
    assert (control.signatures, files) == ((), ())


@pytest.mark.parametrize("algorithm", ["RSA256", "RSA512"])
def test_the_other_algorithms_of_apk_are_checked(tmp_path: Path, algorithm: str) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    control = member(
        entry(b".PKGINFO", pkginfo(replace(METADATA, datahash=hashlib.sha256(member(b"")).hexdigest())).encode())
    )
    digest = {"RSA256": hashes.SHA256(), "RSA512": hashes.SHA512()}[algorithm]
    value = key()._private.sign(control, padding.PKCS1v15(), digest)
    signature = member(entry(f".SIGN.{algorithm}.acme-shop.rsa.pub".encode(), value))
    (tmp_path / "p.apk").write_bytes(signature + control + member(b""))
    found, _ = read_package(tmp_path / "p.apk")
    assert signed_by(key().public_key(), found.signatures, found.digests) == found.signatures[0]
    assert signed_by(key("other.rsa.pub").public_key(), found.signatures, found.digests) is None


def test_a_signature_of_a_kind_we_do_not_know_proves_nothing(tmp_path: Path) -> None:
    control = member(entry(b".PKGINFO", pkginfo(replace(METADATA, datahash="0")).encode()))
    (tmp_path / "p.apk").write_bytes(member(entry(b".SIGN.DSA.acme-shop.rsa.pub", b"x")) + control)
    assert read_control(tmp_path / "p.apk").signatures == ()


def test_abuilds_checksum_of_a_long_target_is_taken(tmp_path: Path) -> None:
    target = b"d/" * 100
    cut = hashlib.sha1(target[:100]).hexdigest().encode()
    data = entry(b"l", type=tar.SYMLINK, link=target, pax={b"APK-TOOLS.checksum.SHA1": cut}) + tar.END
    _, files = read_package(package(tmp_path / "p.apk", data))
    assert files[0].target == target


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


@given(st.data())
def test_no_changed_byte_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.getbasetemp() / "flipped"
    if not directory.is_dir():
        directory.mkdir()
        pack(directory / "good.apk", small_tree(directory / "tree"))
    good = (directory / "good.apk").read_bytes()
    bad = directory / "bad.apk"
    bad.write_bytes(flipped(good, data.draw(st.integers(0, len(good) - 1))))
    before = read_control(directory / "good.apk")
    try:
        control, _ = read_package(bad)
    except (UsageError, SigningError):
        return
    if signed_by(key().public_key(), control.signatures, control.digests) is not None:
        # A gzip header's time and system are free, and so is a padding: what apk installs is the same.
        assert control.metadata == before.metadata


def cut_anywhere(directory: Path) -> Iterator[Path]:
    good = pack(directory / "good.apk", small_tree(directory / "tree")).path.read_bytes()
    for end in range(0, len(good), 7):
        bad = directory / "bad.apk"
        bad.write_bytes(good[:end])
        yield bad


def test_a_package_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    for bad in cut_anywhere(tmp_path):
        with pytest.raises(UsageError, match=r"bad\.apk is not a package of apk's v2 format: "):
            read_package(bad)


@given(st.binary(max_size=2000))
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.apk"
    for content in (garbage, member(garbage), member(garbage) * 3, member(entry(b".PKGINFO", garbage))):
        path.write_bytes(content)
        with pytest.raises(UsageError):
            read_package(path)


GOOD_DATA = checked(b"file", b"content") + tar.END
ESCAPING = [b"/etc/passwd", b"../x", b"a/../../x", b"./x", b"a//x", b"a/..", b".", b"\x00"[:0] + b"a/./b"]


def pax(body: bytes) -> bytes:
    return entry(b"PaxHeader", body, type=b"x")


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file without a checksum": (lambda p: package(p, entry(b"a", b"x")), "a is not what its checksum says it is"),
    "a file with another's checksum": (
        lambda p: package(p, entry(b"a", b"x", pax={b"APK-TOOLS.checksum.SHA1": b"0" * 40})),
        "a is not what its checksum says it is",
    ),
    "a link with another's checksum": (
        lambda p: package(p, entry(b"a", type=b"2", link=b"x", pax={b"APK-TOOLS.checksum.SHA1": b"0" * 40})),
        "a is not what its checksum says it is",
    ),
    "a fourth segment": (lambda p: package(p, GOOD_DATA, behind=member(b"")), "something behind its data segment"),
    "garbage at the end": (lambda p: package(p, GOOD_DATA, behind=b"garbage"), "something behind its data segment"),
    "files behind the end": (lambda p: package(p, GOOD_DATA + GOOD_DATA), "something behind the archive's end"),
    "zeros without end": (lambda p: package(p, GOOD_DATA + bytes(2 << 20)), "something behind the archive's end"),
    "no tar": (lambda p: package(p, b"x" * 512), "that is no tar header"),
    "half a header": (lambda p: package(p, GOOD_DATA[:700]), "no tar header|ends in the middle"),
    "a wrong header checksum": (
        lambda p: package(p, checked(b"file", b"x").replace(b"file", b"filf")),
        "a tar header's checksum is wrong",
    ),
    "a type that packages lack": (lambda p: package(p, entry(b"a", type=b"S")), "an entry of type b'S'"),
    "a file that goes on for ever": (
        lambda p: package(p, tar.encoded(tar.Header(name=b"a", type=b"0", mode=0, size=8**11 - 1))),
        "ends in the middle of a file",
    ),
    "an endless pax header": (
        lambda p: package(p, tar.encoded(tar.Header(name=b"a", type=b"x", mode=0, size=8**11 - 1))),
        r"\d+ bytes where at most",
    ),
    "a pax record of length 0": (lambda p: package(p, pax(b"0 path=a\n")), "a pax header is malformed"),
    "a pax record without length": (lambda p: package(p, pax(b"path=a\n")), "a pax header is malformed"),
    "a pax record beyond the header": (lambda p: package(p, pax(b"99 path=a\n")), "a pax header is malformed"),
    "a pax record with an endless length": (lambda p: package(p, pax(b"1" * 5000)), "a pax header is malformed"),
    "a script that apk would not run": (
        lambda p: package(p, GOOD_DATA, control=entry(b".post-install", b"x" * (1 << 19))),
        "524288 bytes where at most 262144 are in order",
    ),
    "a file among the scripts": (
        lambda p: package(p, GOOD_DATA, control=entry(b"etc/passwd", b"x")),
        "its control segment has etc/passwd where it should not",
    ),
    "a second .PKGINFO": (
        lambda p: package(p, GOOD_DATA, control=entry(b".PKGINFO", b"x")),
        r"its control segment has \.PKGINFO where it should not",
    ),
    "a script before .PKGINFO": (
        lambda p: written(p, member(entry(b".post-install", b"x")) + member(b"")),
        r"its control segment has \.post-install where it should not",
    ),
    "a file beside the signature": (
        lambda p: written(p, member(entry(b".SIGN.RSA.k", b"x") + entry(b".PKGINFO", b"x"))),
        "holds more than signatures",
    ),
    "a .PKGINFO that is no text": (lambda p: written(p, member(entry(b".PKGINFO", b"\xff"))), "not a package"),
    "an empty control segment": (lambda p: written(p, member(b"")), r"it has no \.PKGINFO"),
    "nothing behind the signature": (
        lambda p: written(p, signature_segment([key()], b"")),
        "it ends where its content should begin",
    ),
    "an index": (lambda p: written(p, member(entry(b"APKINDEX", b"x"))), "has APKINDEX where it should not"),
    "the v3 format": (lambda p: written(p, b"ADB.pckg"), "apk's v3 format"),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, make: str) -> None:
    path, message = HOSTILE[make][0](tmp_path / "p.apk"), HOSTILE[make][1]
    with pytest.raises((UsageError, SigningError), match=message):
        read_package(path)


@pytest.mark.parametrize("name", ESCAPING)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(UsageError, match="which apk refuses"):
        read_package(package(tmp_path / "p.apk", checked(name, b"x") + tar.END))


def test_names_in_messages_are_escaped(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_package(package(tmp_path / "p.apk", checked(b"../\x1b[2Jx\xff", b"x")))
    assert r"../\x1b[2Jx\xff" in caught.value.message.replace("\\\\", "\\")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("where", ["signature", "control", "data"])
def test_a_bomb_takes_no_memory(tmp_path: Path, where: str) -> None:
    path = tmp_path / "p.apk"
    size = 256 << 20
    name = {"signature": b".SIGN.RSA.k", "control": b".PKGINFO", "data": b"zeros"}[where]
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    segment = engine.compress(tar.encoded(tar.Header(name=name, type=b"0", mode=0, size=size)))
    segment += b"".join(engine.compress(bytes(1 << 20)) for _ in range(256)) + engine.flush()
    if where == "data":
        metadata = replace(METADATA, datahash=hashlib.sha256(segment).hexdigest())
        path.write_bytes(member(entry(b".PKGINFO", pkginfo(metadata).encode())) + segment)
    else:
        path.write_bytes(segment)
    tracemalloc.start()
    try:
        with pytest.raises(PakmanError):
            read_package(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be read: (No such file|Is a directory)"):
        read_package(tmp_path / place)


def test_a_changed_control_segment_keeps_no_signature(tmp_path: Path) -> None:
    made = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"))
    content = made.path.read_bytes()
    other = pack(tmp_path / "o.apk", tmp_path / "tree", metadata=named("other")).path.read_bytes()
    cut = content.index(b"\x1f\x8b\x08\x00", 4)
    (tmp_path / "mixed.apk").write_bytes(content[:cut] + other[other.index(b"\x1f\x8b\x08\x00", 4) :])
    control, _ = read_package(tmp_path / "mixed.apk")
    assert control.metadata.pkgname == "other"
    assert signed_by(key().public_key(), control.signatures, control.digests) is None


def test_changed_data_is_named(tmp_path: Path) -> None:
    made = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"))
    (tmp_path / "tree/var/lib/shop/server").write_text("#!/bin/sh\necho stealing.\n")
    other = pack(tmp_path / "o.apk", tmp_path / "tree").path.read_bytes()
    content = made.path.read_bytes()
    last, others_last = content.rindex(b"\x1f\x8b\x08\x00"), other.rindex(b"\x1f\x8b\x08\x00")
    made.path.write_bytes(content[:last] + other[others_last:])
    with pytest.raises(SigningError, match=r"p\.apk has been changed: its data is not what its control segment"):
        read_package(made.path)


def test_signing_again_gives_what_signing_at_once_gives(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    throwaway = pack(tmp_path / "a.apk", tree, signed_by=key("throwaway.rsa.pub"))
    resign(throwaway.path, [key()])
    assert throwaway.path.read_bytes() == pack(tmp_path / "b.apk", tree).path.read_bytes()


def test_an_unsigned_package_is_signed(tmp_path: Path) -> None:
    signed = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree")).path
    content = signed.read_bytes()
    unsigned = tmp_path / "unsigned.apk"
    unsigned.write_bytes(content[content.index(b"\x1f\x8b\x08\x00", 4) :])
    resign(unsigned, [key()])
    assert unsigned.read_bytes() == content


@pytest.mark.parametrize("kind", ["empty", "garbage", "signature"])
def test_what_is_no_package_is_not_signed(tmp_path: Path, kind: str) -> None:
    content = {"empty": b"", "garbage": b"garbage", "signature": signature_segment([key()], b"x")}[kind]
    (tmp_path / "p.apk").write_bytes(content)
    with pytest.raises(UsageError, match="is neither a package nor an index"):
        resign(tmp_path / "p.apk", [key()])
    assert (tmp_path / "p.apk").read_bytes() == content


def test_signing_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        resign(tmp_path / "p.apk", [key()])


def test_signing_where_nothing_can_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(BuildError, match=r"p\.apk cannot be written: No space left on device"):
        resign(made.path, [key()])


def test_python_reads_it_too(tmp_path: Path) -> None:
    """A package is one tar archive in three gzip members, for any reader."""
    made = pack(tmp_path / "p.apk", small_tree(tmp_path / "tree"))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made.path.read_bytes()))) as archive:
        assert archive.getnames()[:2] == [".SIGN.RSA.acme-shop.rsa.pub", ".PKGINFO"]
        server = archive.extractfile("var/lib/shop/server")
        assert server is not None
        assert server.read() == b"#!/bin/sh\necho listening\n"
        assert os.path.basename(archive.getnames()[-1]) == "twin"  # noqa: PTH119

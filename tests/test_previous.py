"""Where the version comes from that a machine upgrades from, and what is not believed."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pakman import previous
from pakman.apk.index import read_index, write_index, write_local_index
from pakman.apk.read import read_control
from pakman.apk.signature import signed_by
from pakman.errors import UsageError
from pakman.previous import Previous
from pakman.repository import BuiltBy, Repository
from pakman.signing import SigningKey, read_public
from tests.packages import METADATA, key, pack, small_tree

NOW = "1.2.3-r4"
ARCH = platform.machine()
OTHER_ARCH = "aarch64" if ARCH == "x86_64" else "x86_64"


def repository(
    directory: Path,
    version: str = NOW,
    *,
    signed_by: SigningKey | None = None,
    previous_key: SigningKey | None = None,
    arch: str = ARCH,
    commit: str = "c" * 40,
    further: Mapping[str, str] | None = None,
) -> Repository:
    """Leave what `pakman build` leaves: shop and shop-openrc; `further` packages of the index with their versions."""
    signer = signed_by or key()
    folder = directory / arch
    folder.mkdir(parents=True)
    tree = small_tree(directory.with_name(f"{directory.name}.tree") / version)
    made = []
    for name in ("shop", "shop-openrc"):
        metadata = replace(METADATA, pkgname=name, pkgver=version, arch="noarch" if "-" in name else arch)
        made.append(pack(folder / f"{name}-{version}.apk", tree, metadata=metadata, signed_by=signer))
    for name, other in (further or {}).items():
        metadata = replace(METADATA, pkgname=name, pkgver=other, arch=arch)
        pack(folder / f"{name}-{other}.apk", tree, metadata=metadata, signed_by=signer)
    write_local_index(folder / "APKINDEX.tar.gz", folder.glob("*.apk"), [signer], "tests", arch)
    (directory / signer.name).write_bytes(signer.public_pem)
    if previous_key is not None:
        (directory / previous_key.name).write_bytes(previous_key.public_pem)
    built = Repository(
        directory, arch, "acme", "Shop", "shop", commit, "alpine/3.23", signer.name, packages=tuple(made),
        builder=BuiltBy("embedded", "0.1.0"), previous_key_name=previous_key.name if previous_key else None,
    )  # fmt: skip
    built.manifest_file.write_text(built.to_json())
    return built


def chosen(built: Repository, given: Path | str | None, tmp_path: Path, warnings: list[str] | None = None) -> Previous:
    """Choose; what is chosen has to be whole, and signed with its own key."""
    said: list[str] = [] if warnings is None else warnings
    found = previous.choose(
        built, None if given is None else str(given), tmp_path / "previous", clock=lambda: 0, on_warning=said.append
    )
    assert warnings is not None or said == []
    holds(found)
    return found


def holds(found: Previous) -> None:
    """A repository of its own, all of it signed with the key that comes with it."""
    trusted = read_public(found.public_key)
    assert trusted.name == previous.KEY_NAME
    index = read_index(found.directory / f"{ARCH}/APKINDEX.tar.gz")
    assert signed_by(trusted, index.signatures, index.digests) is not None
    assert {each.version for each in index.stanzas} == {found.version}
    for stanza in index.stanzas:
        control = read_control(found.directory / f"{ARCH}/{stanza.name}-{stanza.version}.apk")
        assert control.checksum == stanza.checksum
        assert signed_by(trusted, control.signatures, control.digests) is not None


def names(found: Previous) -> list[str]:
    return sorted(path.name for path in (found.directory / ARCH).glob("*.apk"))


def test_without_any_the_same_is_rebuilt(tmp_path: Path) -> None:
    found = chosen(repository(tmp_path / "now"), None, tmp_path)
    assert (found.version, found.source) == ("1.2.3-r3", "")
    assert names(found) == ["shop-1.2.3-r3.apk", "shop-openrc-1.2.3-r3.apk"]


def test_a_directory_that_was_built_before_is_taken_whatever_its_key(tmp_path: Path) -> None:
    before = repository(tmp_path / "before", "1.2.0-r0", signed_by=key("acme-before.rsa.pub"))
    found = chosen(repository(tmp_path / "now"), before.directory, tmp_path)
    assert (found.version, found.source) == ("1.2.0-r0", str(before.directory))
    assert names(found) == ["shop-1.2.0-r0.apk", "shop-openrc-1.2.0-r0.apk"]
    # It is a copy that is signed again.
    assert read_control(before.packages[0].path).signatures[0].key_name == "acme-before.rsa.pub"


def test_the_newest_that_is_older_is_taken_with_what_was_made_with_it(tmp_path: Path) -> None:
    further = {"shop": "1.2.3-r3", "shop-openrc": "1.2.3-r3", "shop-doc": "1.2.3-r3", "other": "9-r0"}
    before = repository(tmp_path / "before", "2.0-r0", further=further)
    found = chosen(repository(tmp_path / "now"), before.directory, tmp_path)
    assert names(found) == ["shop-1.2.3-r3.apk", "shop-doc-1.2.3-r3.apk", "shop-openrc-1.2.3-r3.apk"]


def swap_index(before: Repository) -> None:
    write_index(before.index, [each.path for each in before.packages], [key("another.rsa.pub")], "another's")


def swap_package(before: Repository) -> None:
    path = before.packages[0].path
    pack(path, path.parent, metadata=replace(METADATA, pkgver="1.0-r0"))


def cut_package(before: Repository) -> None:
    path = before.packages[0].path
    path.write_bytes(path.read_bytes()[:-1])


def no_package(before: Repository) -> None:
    before.packages[0].path.write_bytes(b"x" * before.packages[0].size)


def lose_package(before: Repository) -> None:
    before.packages[0].path.unlink()


def break_index(before: Repository) -> None:
    before.index.write_text("no index")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (swap_index, "the index of BEFORE is not signed with acme-shop.rsa.pub, which is what is known here"),
        (swap_package, "shop-1.0-r0.apk of BEFORE is not the package that its index names"),
        (cut_package, "shop-1.0-r0.apk of BEFORE is not the package that its index names"),
        (no_package, "shop-1.0-r0.apk of BEFORE is not the package that its index names"),
        (lose_package, f"BEFORE/{ARCH}/shop-1.0-r0.apk cannot be read (No such file or directory)"),
        (break_index, "the index of BEFORE is not an index of apk's v2 format: it is not gzip, or damaged"),
    ],
)
def test_what_cannot_be_believed_is_said_and_the_same_is_rebuilt(
    tmp_path: Path, damage: Callable[[Repository], None], reason: str
) -> None:
    before = repository(tmp_path / "before", "1.0-r0")
    damage(before)
    warnings: list[str] = []
    found = chosen(repository(tmp_path / "now"), before.directory, tmp_path, warnings)
    assert (found.version, found.source) == ("1.2.3-r3", "")
    reason = reason.replace("BEFORE", str(before.directory))
    assert warnings == [f"{reason}: the upgrade is tried from the same package, rebuilt as 1.2.3-r3"]


@pytest.mark.parametrize("version", [NOW, "1.2.3-r5", "2.0-r0"])
def test_what_is_not_older_is_said(tmp_path: Path, version: str) -> None:
    before = repository(tmp_path / "before", version)
    warnings: list[str] = []
    assert chosen(repository(tmp_path / "now"), before.directory, tmp_path, warnings).source == ""
    assert warnings[0].startswith(f"{before.directory} has no shop that is older than {NOW}: the upgrade is tried from")


def test_another_architecture_s_is_said(tmp_path: Path) -> None:
    before = repository(tmp_path / "before", "1.0-r0", arch=OTHER_ARCH)
    warnings: list[str] = []
    assert chosen(repository(tmp_path / "now"), before.directory, tmp_path, warnings).source == ""
    assert warnings[0].startswith(f"{before.directory} has no packages for {ARCH}: ")


def test_a_package_of_no_size_or_a_monstrous_one_is_not_fetched(tmp_path: Path) -> None:
    before = repository(tmp_path / "before", "1.0-r0")
    with before.packages[0].path.open("r+b") as file:
        file.truncate(5 << 30)
    write_index(before.index, [each.path for each in before.packages], [key()], "tests")
    warnings: list[str] = []
    assert chosen(repository(tmp_path / "now"), before.directory, tmp_path, warnings).source == ""
    assert "shop-1.0-r0.apk of" in warnings[0]
    assert f"has {5 << 30} bytes, which is too much" in warnings[0]


@pytest.mark.parametrize("given", ["s3://bucket/shop", "ftp://host/shop", "https://", "http://host/a b"])
def test_an_address_that_is_none_is_an_error_of_usage(tmp_path: Path, given: str) -> None:
    with pytest.raises(UsageError, match="is neither a directory nor an address of http or https"):
        chosen(repository(tmp_path / "now"), given, tmp_path)


def test_a_directory_that_is_none_is_an_error_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no built repository"):
        chosen(repository(tmp_path / "now"), tmp_path / "nowhere", tmp_path)

"""What `pakman inspect` says of a package, and when it refuses to say anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pakman.apk.index import write_index
from pakman.errors import SigningError, UsageError
from pakman.inspect import inspect
from tests.packages import METADATA, key, pack, small_tree


@pytest.fixture
def package(tmp_path: Path) -> Path:
    scripts = {".post-install": b"#!/bin/sh\nrc-update add shop\n\x1b[2Jcafe\xff\n"}
    metadata = replace(METADATA, provides=("cmd:shop=1.2.3-r4",))
    return pack(tmp_path / "shop.apk", small_tree(tmp_path / "tree"), metadata=metadata, scripts=scripts).path


def key_file(directory: Path, name: str = "acme-shop.rsa.pub", content_of: str = "acme-shop.rsa.pub") -> Path:
    (directory / name).write_bytes(key(content_of).public_pem)
    return directory / name


def test_people_see_metadata_scripts_and_files(tmp_path: Path, package: Path) -> None:
    shown = inspect(package, key=key_file(tmp_path), as_json=False)
    lines = shown.splitlines()
    assert lines[0] == "shop 1.2.3-r4 (x86_64)"
    assert "  description  A shop that sells things" in lines
    assert "  depends      /bin/sh" in lines
    assert (
        "  signature    good: signed by acme-shop.rsa.pub; apk looks for it as /etc/apk/keys/acme-shop.rsa.pub" in lines
    )
    start = lines.index(".post-install runs:")
    assert lines[start + 1 : start + 4] == ["  #!/bin/sh", "  rc-update add shop", r"  \x1b[2Jcafe\xff"]
    assert lines[-7:] == [
        "  drwxr-xr-x root:root           var/",
        "  drwxr-xr-x root:root           var/lib/",
        "  drwxr-xr-x root:root           var/lib/shop/",
        "  -rw-r--r-- root:root       0 B var/lib/shop/empty",
        "  lrwxrwxrwx root:root           var/lib/shop/link -> server",
        "  -rwxr-xr-x root:root      25 B var/lib/shop/server",
        "  -rwxr-xr-x root:root           var/lib/shop/twin = var/lib/shop/server",
    ]
    assert all(line.isprintable() for line in lines)


def test_programs_see_the_same(tmp_path: Path, package: Path) -> None:
    shown = json.loads(inspect(package, key=key_file(tmp_path), as_json=True))
    assert shown["metadata"]["pkgname"] == "shop"
    assert shown["metadata"]["provides"] == ["cmd:shop=1.2.3-r4"]
    assert shown["scripts"][".post-install"].startswith("#!/bin/sh\n")
    assert shown["signatures"] == ["acme-shop.rsa.pub"]
    assert shown["signed_by"] == "acme-shop.rsa.pub"
    assert shown["size"] == package.stat().st_size
    assert {each["path"]: each["type"] for each in shown["files"]} == {
        "var": "directory",
        "var/lib": "directory",
        "var/lib/shop": "directory",
        "var/lib/shop/empty": "file",
        "var/lib/shop/link": "symlink",
        "var/lib/shop/server": "file",
        "var/lib/shop/twin": "hardlink",
    }
    assert shown["files"][5] == {
        "path": "var/lib/shop/server",
        "type": "file",
        "mode": "0755",
        "owner": "root",
        "group": "root",
        "size": 25,
        "sha1": hashlib.sha1(b"#!/bin/sh\necho listening\n").hexdigest(),
    }
    assert (shown["files"][4]["target"], shown["files"][6]["target"]) == ("server", "var/lib/shop/server")


def test_without_a_key_nothing_is_claimed(package: Path) -> None:
    assert "not checked: it claims to be signed by acme-shop.rsa.pub; give --key FILE to check it" in inspect(
        package, key=None, as_json=False
    )
    assert json.loads(inspect(package, key=None, as_json=True))["signed_by"] is None


def test_a_key_file_may_have_another_name(tmp_path: Path, package: Path) -> None:
    shown = inspect(package, key=key_file(tmp_path, "mine.pub"), as_json=False)
    assert "good: signed by acme-shop.rsa.pub" in shown


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acme-shop.rsa.pub", "claims to be signed by acme-shop.rsa.pub, but the signature does not hold"),
        ("other.rsa.pub", r"was not signed by .*other\.rsa\.pub: it claims to be signed by acme-shop\.rsa\.pub"),
    ],
)
def test_another_key_is_refused(tmp_path: Path, package: Path, name: str, message: str, as_json: bool) -> None:
    with pytest.raises(SigningError, match=message) as caught:
        inspect(package, key=key_file(tmp_path, name, content_of="other"), as_json=as_json)
    assert caught.value.exit_code == 5


def unsigned(package: Path) -> Path:
    content = package.read_bytes()
    package.write_bytes(content[content.index(b"\x1f\x8b\x08\x00", 4) :])
    return package


def test_an_unsigned_package_is_said_to_be_unsigned(tmp_path: Path, package: Path) -> None:
    assert "none: apk installs it only with --allow-untrusted" in inspect(unsigned(package), key=None, as_json=False)
    with pytest.raises(SigningError, match="is not signed at all"):
        inspect(package, key=key_file(tmp_path), as_json=False)


def test_an_index_is_shown_too(tmp_path: Path, package: Path) -> None:
    index = tmp_path / "APKINDEX.tar.gz"
    write_index(index, [package], [key()], "acme/shop")
    assert inspect(index, key=key_file(tmp_path), as_json=False).splitlines() == [
        "an index of 1 package",
        "  description  acme/shop",
        "  signature    good: signed by acme-shop.rsa.pub; apk looks for it as /etc/apk/keys/acme-shop.rsa.pub",
        "",
        "  shop 1.2.3-r4 (x86_64)",
    ]
    shown = json.loads(inspect(index, key=None, as_json=True))
    assert [each["name"] for each in shown["packages"]] == ["shop"]
    with pytest.raises(SigningError, match="was not signed by"):
        inspect(index, key=key_file(tmp_path, "other.rsa.pub", content_of="other"), as_json=False)


def test_what_is_no_package_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "x.apk").write_text("garbage")
    with pytest.raises(UsageError, match=r"x\.apk is not a package"):
        inspect(tmp_path / "x.apk", key=None, as_json=False)

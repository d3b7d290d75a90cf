"""The real apk judges what we write: it verifies, indexes, installs, upgrades and removes our packages."""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import shutil
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pakman.apk.index import read_index, write_index
from pakman.apk.metadata import Metadata, pkginfo
from pakman.apk.older import write_older
from pakman.apk.package import Package
from pakman.apk.read import read_package
from pakman.apk.signature import resign, signed_by
from pakman.apk.write import SCRIPTS
from pakman.errors import BuildError, SigningError, UsageError
from tests.integration.conftest import AlpineRoot
from tests.packages import METADATA, key, named, pack, small_tree
from tests.test_apk_write import TREES, make

pytestmark = pytest.mark.alpine

ARCH = platform.machine()
BUILDER = 4242
"""A user that exists while building; machines that install know it by another number."""
INSTALLED = 777


def sample(name: str = "shop", version: str = "1.2.3-r4", **fields: object) -> Metadata:
    return replace(named(name, version), arch=ARCH, **fields)  # type: ignore[arg-type]


@pytest.fixture
def repository(alpine_root: AlpineRoot) -> Path:
    """An empty repository that the root's apk reads, and our key the only one it trusts."""
    directory = alpine_root.path / "srv/repository" / ARCH
    directory.mkdir(parents=True)
    keys = alpine_root.path / "etc/apk/keys"
    shutil.rmtree(keys)
    keys.mkdir()
    (keys / key().name).write_bytes(key().public_pem)
    (alpine_root.path / "etc/apk/repositories").write_text("/srv/repository\n")
    return directory


def put(repository: Path, tree: Path, metadata: Metadata | None = None, **arguments: object) -> Package:
    """Pack a tree into the repository and index all that is there."""
    metadata = metadata or sample()
    path = repository / f"{metadata.pkgname}-{metadata.pkgver}.apk"
    package = pack(path, tree, metadata=metadata, **arguments)  # type: ignore[arg-type]
    write_index(repository / "APKINDEX.tar.gz", repository.glob("*.apk"), [key()], "tests")
    return package


def verified(root: AlpineRoot, *paths: Path) -> None:
    names = [f"/{path.relative_to(root.path)}" for path in paths]
    done = root.run("apk", "verify", *names)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service, effective and permitted."""


def rich_tree(root: Path) -> Path:
    base = root / "usr/share/shop"
    base.mkdir(parents=True)
    (base / "plain").write_text("plain\n")
    (base / ".dotfile").write_text("dot\n")
    (base / "with space").write_text("space\n")
    (base / "naïve ☃ 店").write_text("unicode\n")
    (base / "quo'te\"$(touch x)`\\").write_text("shell\n")
    (base / "n" / ("x" * 200)).parent.mkdir()
    (base / "n" / ("x" * 200)).write_text("more than 100 bytes\n")
    long = base.joinpath(*("d" * 90 for _ in range(6)))
    long.mkdir(parents=True)
    (long / "file").write_text("more than 255 bytes\n")
    (long / "twin").hardlink_to(long / "file")
    (long / "link").symlink_to("../" * 100 + "nowhere")
    (base / "empty").mkdir()
    (base / "sticky").mkdir()
    (base / "sticky").chmod(0o3770)
    (base / "nothing").touch()
    (base / "dangling").symlink_to("not/there")
    (base / "absolute").symlink_to("/etc/passwd")
    (base / "directory-link").symlink_to("empty")
    (base / "aaa-twin").hardlink_to(base / "plain")
    (base / "setuid").write_text("#!/bin/sh\n")
    (base / "setuid").chmod(0o4755)
    (base / "setuid-twin").hardlink_to(base / "setuid")
    (base / "capable").write_text("#!/bin/sh\n")
    (base / "capable").chmod(0o755)
    os.setxattr(base / "capable", "security.capability", CAPABILITY)
    os.setxattr(base / "capable", "user.note", b"a\0b\nc")
    (base / "capable-twin").hardlink_to(base / "capable")
    (base / "theirs").write_text("theirs\n")
    (base / "theirs").chmod(0o640)
    os.chown(base / "theirs", BUILDER, BUILDER)
    os.chown(base / "sticky", BUILDER, 0)
    os.mkfifo(base / "pipe", 0o620)
    os.mknod(base / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (base / os.fsdecode(b"latin-\xe9")).write_text("not UTF-8\n")
    with (base / "sparse").open("wb") as file:
        file.seek(48 << 20)
        file.write(b"end")
    (base / "many").mkdir()
    for number in range(5_000):
        (base / "many" / f"{number:04}").write_bytes(b"%d" % number * (number % 50))
    return root


def facts(path: Path) -> dict[str, object]:
    """Return everything about one file that a package carries."""
    status = path.lstat()
    found: dict[str, object] = {"mode": oct(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        found["target"] = path.readlink()
    elif stat.S_ISREG(status.st_mode):
        found["sha1"] = hashlib.sha1(path.read_bytes()).hexdigest()
        found["xattrs"] = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        found["links"] = status.st_nlink
    elif stat.S_ISCHR(status.st_mode):
        found["device"] = status.st_rdev
    return found


def everything(tree: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(tree):
        for name in (*directories, *files):
            yield Path(directory, name)


def listing(root: AlpineRoot) -> set[str]:
    """Return every path in the root but apk's own books and what the host mounts."""
    own = ("lib/apk/", "usr/lib/apk/", "etc/apk/world", "var/log/apk.log", "var/cache/", "dev/", "proc/", "srv/")
    paths = {str(path.relative_to(root.path)) for path in everything(root.path)}
    return {path for path in paths if not path.startswith(own)}


def test_a_rich_tree_is_installed_as_it_was_built(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    tree = rich_tree(tmp_path / "tree")
    for account, separator in (("passwd", ":/var/lib/shop:/sbin/nologin"), ("group", ":")):
        with (alpine_root.path / "etc" / account).open("a") as file:
            file.write(f"shop:x:{INSTALLED}{f':{INSTALLED}:' if account == 'passwd' else ''}{separator}\n")
    names = {0: "root", BUILDER: "shop"}
    package = put(repository, tree, owners=names, groups=names, threads=2)
    before = listing(alpine_root)
    verified(alpine_root, package.path)
    alpine_root.sh("apk add --no-progress shop")

    numbers = {0: 0, BUILDER: INSTALLED}
    differing = {}
    for built in everything(tree):
        expected = facts(built)
        expected |= {"uid": numbers[built.lstat().st_uid], "gid": numbers[built.lstat().st_gid]}
        installed = alpine_root.path / built.relative_to(tree)
        if built.relative_to(tree).parts in (("usr",), ("usr", "share")):
            continue
        found = facts(installed) if installed.is_symlink() or installed.exists() else None
        if found != expected:
            differing[str(built.relative_to(tree))] = (found, expected)
    assert differing == {}
    assert (alpine_root.path / "usr/share/shop/plain").stat().st_mtime == METADATA.builddate
    # apk compares every file with the checksum that came with it; it would wait for ever at a pipe.
    for special in ("null", "pipe"):
        (alpine_root.path / "usr/share/shop" / special).unlink()
    audit = alpine_root.run("timeout", "30", "apk", "audit", "--system", "/usr/share/shop").stdout.decode()
    assert audit.splitlines() == ["X usr/share/shop/null", "X usr/share/shop/pipe"]

    alpine_root.sh("apk del --no-progress shop")
    assert listing(alpine_root) == before


def test_scripts_run_in_apks_order(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    scripts = {
        name: b'#!/bin/sh\necho "%s $*" >> /proof\n' % name.lstrip(".").encode()
        for name in SCRIPTS
        if name != ".trigger"
    }
    scripts[".trigger"] = b'#!/bin/sh\necho "trigger $*" >> /proof\n'
    tree = small_tree(tmp_path / "tree")
    put(repository, tree, sample(version="1-r0", triggers=("/var/lib/shop",)), scripts=scripts)
    alpine_root.sh("apk add shop")
    put(repository, tree, sample(version="2-r0", triggers=("/var/lib/shop",)), scripts=scripts)
    alpine_root.sh("apk upgrade")
    alpine_root.sh("apk del shop")
    assert (alpine_root.path / "proof").read_text().splitlines() == [
        "pre-install 1-r0",
        "post-install 1-r0",
        "trigger /var/lib/shop",
        "pre-upgrade 2-r0 1-r0",
        "post-upgrade 2-r0 1-r0",
        "trigger /var/lib/shop",
        "pre-deinstall 2-r0",
        "post-deinstall 2-r0",
    ]


def test_an_upgrade_replaces_and_removes_files(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    put(repository, tree, sample(version="1-r0"))
    alpine_root.sh("apk add shop")
    (tree / "var/lib/shop/twin").unlink()
    (tree / "var/lib/shop/server").write_text("new\n")
    put(repository, tree, sample(version="2-r0"))
    alpine_root.sh("apk upgrade")
    found = sorted(path.name for path in (alpine_root.path / "var/lib/shop").iterdir())
    assert found == ["empty", "link", "server"]
    assert (alpine_root.path / "var/lib/shop/server").read_text() == "new\n"


def test_the_older_package_is_installed_and_upgraded_from(
    alpine_root: AlpineRoot, repository: Path, tmp_path: Path
) -> None:
    scripts = {name: b'#!/bin/sh\necho "%s $*" >>/proof\n' % name.encode() for name in SCRIPTS if name != ".trigger"}
    tree = small_tree(tmp_path / "tree")
    put(repository, tree, sample(version="1-r0", depends=("shop-openrc=1-r0",)), scripts=scripts)
    part = tmp_path / "part/etc/init.d/shop"
    part.parent.mkdir(parents=True)
    part.write_text("#!/sbin/openrc-run\n")
    put(repository, tmp_path / "part", sample("shop-openrc", "1-r0"))
    packages = [Package("shop", "1-r0", ARCH, path, 0, "") for path in sorted(repository.glob("*.apk"))]
    packages = [replace(each, name=each.path.name.removesuffix("-1-r0.apk")) for each in packages]

    before = alpine_root.path / "srv/before" / ARCH
    before.mkdir(parents=True)
    own = key("previous.rsa.pub")
    older = write_older(packages, before, [own])
    write_index(before / "APKINDEX.tar.gz", [each.path for each in older], [own], "before")
    (alpine_root.path / "etc/apk/keys" / own.name).write_bytes(own.public_pem)
    verified(alpine_root, *(each.path for each in older))
    (alpine_root.path / "etc/apk/repositories").write_text("/srv/before\n")
    alpine_root.sh("apk add --no-progress shop")
    assert alpine_root.sh("apk list --installed --manifest shop*").split() == [
        "shop",
        "1_alpha-r0",
        "shop-openrc",
        "1_alpha-r0",
    ]
    (alpine_root.path / "etc/apk/repositories").write_text("/srv/before\n/srv/repository\n")
    alpine_root.sh("apk upgrade --no-progress")
    assert "shop 1-r0\nshop-openrc 1-r0\n" in alpine_root.sh("apk list --installed --manifest shop*")
    assert (alpine_root.path / "proof").read_text().splitlines() == [
        ".pre-install 1_alpha-r0",
        ".post-install 1_alpha-r0",
        ".pre-upgrade 1-r0 1_alpha-r0",
        ".post-upgrade 1-r0 1_alpha-r0",
    ]
    assert alpine_root.sh("apk audit --packages --system shop shop-openrc || true") == ""


def test_a_package_of_nothing_but_scripts_runs_them(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    put(repository, tmp_path / "tree", scripts={".post-install": b"#!/bin/sh\ntouch /ran\n"})
    alpine_root.sh("apk add shop")
    assert (alpine_root.path / "ran").exists()


def test_the_index_is_what_apk_index_writes(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "tree")
    put(
        repository,
        tree,
        sample(
            pkgdesc='a "b" $(touch x) `touch y` ☃ = =',
            maintainer="Ada <ada@example.com>",
            provider_priority=10,
            replaces_priority=3,
            replaces=("old-shop<2",),
            depends=("musl>=1.2", "!shop-legacy", "/bin/sh", f"so:libc.musl-{ARCH}.so.1", "busybox~1.37"),
            provides=("cmd:shop=1.2.3-r4", "webshop"),
            install_if=("openrc", "shop-data=1.2.3-r4"),
        ),
        scripts={".post-install": b"#!/bin/sh\n"},
    )
    put(repository, tree, sample("bare", "0-r0", pkgdesc="", url="", license="", commit="", builddate=0))
    (tmp_path / "empty").mkdir()
    put(repository, tmp_path / "empty", sample("empty"))
    ours = {each.text for each in read_index(repository / "APKINDEX.tar.gz").stanzas}
    text = alpine_root.sh(
        f"cd /srv/repository/{ARCH}; apk index --no-warnings -q -o /tmp/index *.apk; tar -xzOf /tmp/index APKINDEX"
    )
    assert ours == {f"{stanza}\n" for stanza in text.strip("\n").split("\n\n")}
    assert alpine_root.sh("apk add shop-nonexistent 2>/dev/null || apk search -d -e shop").startswith("shop-1.2.3-r4")


def test_the_longest_description_that_we_take_is_the_longest_that_apk_stores(
    alpine_root: AlpineRoot, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = small_tree(tmp_path / "tree")
    longest = max(size for size in range(1_000, 2_048) if accepted(sample(pkgdesc="d" * size, size=25)))
    put(repository, tree, sample(pkgdesc="d" * longest))
    alpine_root.sh("apk add shop")
    assert "d" * longest in alpine_root.sh("apk info -d shop")

    monkeypatch.setattr("pakman.apk.metadata.STANZA_LIMIT", 10_000)
    # The file's size has fewer digits than the thirteen that are reserved for it.
    put(repository, tree, sample("other", pkgdesc="d" * (longest + 20)))
    assert alpine_root.run("apk", "add", "other").returncode != 0


def accepted(metadata: Metadata) -> bool:
    try:
        pkginfo(metadata)
    except BuildError:
        return False
    return True


def test_without_our_key_nothing_is_installed(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    package = put(repository, small_tree(tmp_path / "tree"))
    (alpine_root.path / "etc/apk/keys" / key().name).write_bytes(key("other").public_pem)
    assert alpine_root.run("apk", "verify", f"/srv/repository/{ARCH}/{package.path.name}").returncode != 0
    done = alpine_root.run("apk", "add", "shop")
    assert done.returncode != 0
    assert not (alpine_root.path / "var/lib/shop").exists()


def test_a_package_signed_again_is_trusted(alpine_root: AlpineRoot, repository: Path, tmp_path: Path) -> None:
    package = put(repository, small_tree(tmp_path / "tree"), signed_by=key("throwaway.rsa.pub"))
    assert alpine_root.run("apk", "verify", f"/srv/repository/{ARCH}/{package.path.name}").returncode != 0
    resign(package.path, [key()])
    verified(alpine_root, package.path)
    resign(repository / "APKINDEX.tar.gz", [key()])
    write_index(repository / "APKINDEX.tar.gz", [package.path], [key()], "tests")
    alpine_root.sh("apk add shop")


def trusting(root: AlpineRoot, *names: str) -> None:
    """Let a machine know these keys, and no others."""
    keys = root.path / "etc/apk/keys"
    shutil.rmtree(keys)
    keys.mkdir()
    for name in names:
        (keys / name).write_bytes(key(name).public_pem)


@pytest.mark.parametrize("known", [["old.rsa.pub"], ["new.rsa.pub"], ["new.rsa.pub", "old.rsa.pub"]], ids="+".join)
def test_what_two_keys_signed_is_trusted_by_who_knows_either(
    alpine_root: AlpineRoot, repository: Path, tmp_path: Path, known: list[str]
) -> None:
    keys = [key("new.rsa.pub"), key("old.rsa.pub")]
    trusting(alpine_root, *known)
    package = put(repository, small_tree(tmp_path / "tree"))
    resign(package.path, keys)
    write_index(repository / "APKINDEX.tar.gz", [package.path], keys, "tests")
    verified(alpine_root, package.path)
    alpine_root.sh("apk add --no-progress shop && apk del shop")
    alpine_root.sh(f"echo >/etc/apk/repositories; apk add --no-progress /srv/repository/{ARCH}/{package.path.name}")


def test_the_index_vouches_for_a_package_whose_own_key_is_unknown(
    alpine_root: AlpineRoot, repository: Path, tmp_path: Path
) -> None:
    """What lies in a repository need not be signed again when its key changes: apk goes by the index's checksum."""
    trusting(alpine_root, "new.rsa.pub")
    package = put(repository, small_tree(tmp_path / "tree"), signed_by=key("old.rsa.pub"))
    write_index(repository / "APKINDEX.tar.gz", [package.path], [key("old.rsa.pub")], "tests")
    assert alpine_root.run("apk", "add", "shop").returncode != 0
    write_index(repository / "APKINDEX.tar.gz", [package.path], [key("new.rsa.pub")], "tests")
    alpine_root.sh("apk add --no-progress shop")
    assert alpine_root.run("apk", "verify", f"/srv/repository/{ARCH}/{package.path.name}").returncode != 0


def members(path: Path) -> list[bytes]:
    """Return a file's gzip members, compressed as they are."""
    found, rest = [], path.read_bytes()
    while rest:
        engine = zlib.decompressobj(31)
        engine.decompress(rest)
        found.append(rest[: len(rest) - len(engine.unused_data)])
        rest = engine.unused_data
    return found


def entry_with(member: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    content = gzip.decompress(member)
    assert old in content
    return gzip.compress(content.replace(old, new))


def change_data(path: Path) -> None:
    signature, control, data = members(path)
    path.write_bytes(signature + control + entry_with(data, b"echo listening", b"echo tampered!"))


def change_control(path: Path) -> None:
    signature, control, data = members(path)
    path.write_bytes(signature + entry_with(control, b"things", b"stings") + data)


def change_script(path: Path) -> None:
    signature, control, data = members(path)
    path.write_bytes(signature + entry_with(control, b"touch /good", b"touch /evil") + data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(1024)))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)


def test_a_tampered_package_is_refused_by_apk_and_by_us(
    alpine_root: AlpineRoot, repository: Path, tmp_path: Path
) -> None:
    tree = small_tree(tmp_path / "tree")
    package = put(repository, tree, scripts={".post-install": b"#!/bin/sh\ntouch /good\n"})
    good = package.path.read_bytes()
    verified(alpine_root, package.path)
    for tamper in (change_data, change_control, change_script, cut, append, flip):
        package.path.write_bytes(good)
        tamper(package.path)
        refused(alpine_root, package.path)
    assert not (alpine_root.path / "good").exists()


def refused(root: AlpineRoot, path: Path) -> None:
    assert root.run("apk", "verify", f"/{path.relative_to(root.path)}").returncode != 0
    # From the repository: by the index.
    assert root.run("apk", "add", "shop").returncode != 0
    assert not (root.path / "evil").exists()
    root.run("apk", "del", "shop")
    try:
        control, _ = read_package(path)
    except (SigningError, UsageError):
        return
    assert signed_by(key().public_key(), control.signatures, control.digests) is None


def test_a_tampered_index_is_refused_by_apk_and_by_us(
    alpine_root: AlpineRoot, repository: Path, tmp_path: Path
) -> None:
    put(repository, small_tree(tmp_path / "tree"))
    path = repository / "APKINDEX.tar.gz"
    signature, index = members(path)
    path.write_bytes(signature + entry_with(index, b"P:shop", b"P:evil"))
    for name in ("shop", "evil"):
        assert alpine_root.run("apk", "add", name).returncode != 0
    found = read_index(path)
    assert signed_by(key().public_key(), found.signatures, found.digests) is None


BATCHES = st.lists(TREES, min_size=6, max_size=6)


@given(BATCHES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_tree_is_verified_and_extracted(
    alpine_root: AlpineRoot, repository: Path, batch: list[tuple[object, ...]]
) -> None:
    """One run of the root for many packages: starting it is what takes time."""
    with tempfile.TemporaryDirectory(dir=alpine_root.path / "srv") as name:
        directory = Path(name)
        for number, node in enumerate(batch):
            (directory / f"{number}.tree").mkdir()
            (directory / f"{number}.out").mkdir()
            make(os.fsencode(directory / f"{number}.tree/top"), node)
            pack(directory / f"{number}.apk", directory / f"{number}.tree", metadata=sample(), threads=1 + number % 2)
        alpine_root.sh(
            f"cd /srv/{directory.name}; apk verify *.apk;"
            " for apk in *.apk; do apk extract --quiet --destination ${apk%.apk}.out $apk; done"
        )
        for number in range(len(batch)):
            built, extracted = directory / f"{number}.tree", directory / f"{number}.out"
            expected = {path.relative_to(built): facts(path) for path in everything(built)}
            assert {path.relative_to(extracted): facts(path) for path in everything(extracted)} == expected

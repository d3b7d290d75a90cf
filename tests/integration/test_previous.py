"""The version before is fetched from servers, real ones and bad ones, and the real apk upgrades from it."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pakman import previous
from pakman.bucket import Bucket, Location
from pakman.previous import Previous
from pakman.publish import publish
from pakman.repository import Repository
from tests.integration.conftest import BUCKET, AlpineRoot
from tests.packages import key
from tests.servers import S3Server, free_ports
from tests.test_previous import ARCH, NOW, OTHER_ARCH, holds, names, repository


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A directory, and the address that it is served at."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "www").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield tmp_path / "www", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def chosen(built: Repository, given: str, tmp_path: Path) -> tuple[Previous, list[str]]:
    warnings: list[str] = []
    found = previous.choose(built, given, tmp_path / "previous", clock=time.monotonic, on_warning=warnings.append)
    holds(found)
    return found, warnings


@pytest.mark.alpine
def test_a_machine_upgrades_from_what_an_apk_repository_has(
    served: tuple[Path, str], tmp_path: Path, alpine_root: AlpineRoot
) -> None:
    www, url = served
    repository(www / "shop", "1.2.0-r7", further={"shop": "1.1-r0", "shop-openrc": "1.1-r0"})
    built = repository(tmp_path / "now")
    found, warnings = chosen(built, f"{url}/shop/", tmp_path)
    assert warnings == []
    assert (found.version, found.source) == ("1.2.0-r7", f"{url}/shop")
    assert names(found) == ["shop-1.2.0-r7.apk", "shop-openrc-1.2.0-r7.apk"]

    shutil.copytree(found.directory, alpine_root.path / "before")
    shutil.copytree(built.directory, alpine_root.path / "now")
    shutil.rmtree(alpine_root.path / "etc/apk/keys")
    (alpine_root.path / "etc/apk/keys").mkdir()
    for path in (found.public_key, built.public_key):
        shutil.copy(path, alpine_root.path / "etc/apk/keys")
    alpine_root.sh("apk add --no-network --repository /before shop shop-openrc")
    alpine_root.sh("apk upgrade --no-network --repository /before --repository /now")
    assert alpine_root.sh("apk list --installed --manifest 'shop*'").split() == ["shop", NOW, "shop-openrc", NOW]


def test_servers_that_have_nothing_to_be_believed(served: tuple[Path, str], tmp_path: Path) -> None:
    www, url = served
    repository(www / "foreign", "1.0-r0", signed_by=key("mallory.rsa.pub"))
    larger = repository(www / "larger", "1.0-r0").packages[0].path
    larger.write_bytes(larger.read_bytes() + b"more")
    nobody = f"http://user:secret@127.0.0.1:{free_ports(1)[0]}/shop"
    reasons = {
        f"{url}/empty": f"{url}/empty/{ARCH}/APKINDEX.tar.gz cannot be reached (the server answers 404)",
        f"{url}/foreign": f"the index of {url}/foreign is not signed with acme-shop.rsa.pub, which",
        f"{url}/larger": f"{url}/larger/{ARCH}/shop-1.0-r0.apk is larger than {larger.stat().st_size - 4} bytes",
        nobody: f"{nobody.replace('user:secret', '…')}/{ARCH}/APKINDEX.tar.gz cannot be reached (no connection)",
    }
    built = repository(tmp_path / "now")
    for number, (given, reason) in enumerate(reasons.items()):
        found, warnings = chosen(built, given, tmp_path / str(number))
        assert found.source == ""
        assert len(warnings) == 1
        assert warnings[0].startswith(reason)
        assert warnings[0].endswith(": the upgrade is tried from the same package, rebuilt as 1.2.3-r3")


@pytest.fixture
def bucket(s3_server: S3Server, location: Location) -> Bucket:
    """A prefix of its own in one bucket."""
    return Bucket(location, env=s3_server.env)


def from_bucket(built: Repository, bucket: Bucket, tmp_path: Path) -> tuple[Previous, list[str]]:
    warnings: list[str] = []
    found = previous.in_bucket(built, bucket, tmp_path / "previous", on_warning=warnings.append)
    holds(found)
    return found, warnings


@pytest.mark.s3
def test_what_was_pushed_last_and_is_older_is_taken(bucket: Bucket, client: Any, tmp_path: Path) -> None:
    built = repository(tmp_path / "now")
    first, warnings = from_bucket(built, bucket, tmp_path / "first")
    assert (first.source, warnings) == ("", [])

    # Version and time do not go the same way: a later fix of an earlier branch.
    for version, commit in (("1.2.0-r1", "a" * 40), ("1.1.9-r2", "0" * 40), ("2.0-r0", "f" * 40)):
        publish((repository(tmp_path / version, version, commit=commit),), bucket)
        if commit == "a" * 40:
            time.sleep(1.1)  # S3 counts whole seconds
    # A push that has not come to its end, another project, another architecture.
    unfinished = repository(tmp_path / "unfinished", "1.2.1-r0", commit="9" * 40)
    publish((unfinished,), bucket)
    index = bucket.location.key("deployments", "acme", "shop", "9" * 40, ARCH, "APKINDEX.tar.gz")
    client.delete_object(Bucket=BUCKET, Key=index)
    publish((dataclasses.replace(repository(tmp_path / "other", "1.2.2-r0"), slug="other"),), bucket)
    publish((repository(tmp_path / "arm", "1.2.2-r0", arch=OTHER_ARCH, commit="8" * 40),), bucket)
    found, warnings = from_bucket(built, bucket, tmp_path / "then")
    assert warnings == []
    assert found.version == "1.1.9-r2"
    assert found.source.endswith(f"/deployments/acme/shop/{'0' * 40}")
    assert names(found) == ["shop-1.1.9-r2.apk", "shop-openrc-1.1.9-r2.apk"]


@pytest.mark.s3
def test_while_keys_are_rotated_what_the_previous_one_signed_is_taken(bucket: Bucket, tmp_path: Path) -> None:
    publish((repository(tmp_path / "before", "1.2.0-r1", commit="a" * 40),), bucket)
    new = key("acme-shop-5f3a9c01.rsa.pub")
    found, warnings = from_bucket(repository(tmp_path / "now", signed_by=new, previous_key=key()), bucket, tmp_path)
    assert (found.version, warnings) == ("1.2.0-r1", [])
    other = key("acme-shop-6a4bad02.rsa.pub")
    built = repository(tmp_path / "later", signed_by=other, previous_key=new)
    found, warnings = from_bucket(built, bucket, tmp_path / "two")
    assert found.source == ""
    assert f"is not signed with {other.name} or {new.name}, which is what is known here: the upgrade is" in warnings[0]


@pytest.mark.s3
def test_a_bucket_that_gives_nothing_or_something_else_is_a_warning(
    bucket: Bucket, client: Any, s3_server: S3Server, tmp_path: Path
) -> None:
    built = repository(tmp_path / "now")
    wrong = Bucket(bucket.location, env={**s3_server.env, "AWS_SECRET_ACCESS_KEY": "wrong"})
    found, warnings = from_bucket(built, wrong, tmp_path / "wrong")
    assert found.source == ""
    assert "the secret access key is not the one that belongs to the access key id: the upgrade is" in warnings[0]

    before = repository(tmp_path / "before", "1.0-r0")
    publish((before,), bucket)
    folder = bucket.location.key("deployments", "acme", "shop", "c" * 40, ARCH)
    client.put_object(Bucket=BUCKET, Key=f"{folder}/shop-1.0-r0.apk", Body=b"x" * 9_999_999)
    found, warnings = from_bucket(built, bucket, tmp_path / "changed")
    assert found.source == ""
    assert f"shop-1.0-r0.apk in {bucket.location} at {s3_server.endpoint} is larger than" in warnings[0]

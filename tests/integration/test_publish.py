"""Built repositories land in a real bucket, whatever happens on the way, and the real apk installs from there."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pakman.apk.index import read_index, write_index
from pakman.bucket import Bucket, Location, upload
from pakman.bucket.content import read as read_content
from pakman.errors import BucketError, UsageError
from pakman.publish import Publication, publish
from pakman.repository import BuiltBy, Repository, read
from tests.integration.conftest import AlpineRoot
from tests.packages import key, named, pack
from tests.proxy import Answer, Request, proxy
from tests.repositories import COMMIT, repository
from tests.servers import S3Server

pytestmark = pytest.mark.s3

ARCH = platform.machine()
LARGE = 20 << 20
"""Bytes: three parts."""


@dataclasses.dataclass(frozen=True)
class Store:
    """A prefix of its own in the server's one bucket: SeaweedFS has room for few buckets."""

    server: S3Server
    location: Location
    client: Any

    @property
    def bucket(self) -> Bucket:
        """A newly opened bucket."""
        return Bucket(self.location, env=self.server.env)

    @property
    def folder(self) -> str:
        """The key of the repository."""
        return f"{self.location.prefix}/deployments/acme/notes/{COMMIT}"

    def objects(self) -> dict[str, bytes]:
        """All that is there."""
        found = self.client.list_objects_v2(Bucket=self.location.name, Prefix=f"{self.location.prefix}/")
        return {item["Key"]: self.get(item["Key"]) for item in found.get("Contents", ())}

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self.client.get_object(Bucket=self.location.name, Key=key)["Body"].read())

    def put(self, key: str, body: bytes) -> None:
        """Store an object as somebody else would."""
        self.client.put_object(Bucket=self.location.name, Key=key, Body=body)

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that have not come to an end."""
        found = self.client.list_multipart_uploads(Bucket=self.location.name, Prefix=f"{self.location.prefix}/")
        return [upload["Key"] for upload in found.get("Uploads", ())]


@pytest.fixture
def store(s3_server: S3Server, location: Location, client: Any) -> Store:
    """Room for one test."""
    return Store(s3_server, location, client)


def some_packages(number: int = 3) -> dict[str, bytes]:
    return {f"notes{index}": os.urandom(2000 + index) for index in range(number)}


def test_everything_lands_where_apk_looks_for_it(store: Store, tmp_path: Path) -> None:
    packages = {**some_packages(), "empty": b""}
    for arch in ("aarch64", "x86_64"):
        repository(tmp_path, packages, arch=arch, index=f"the index for {arch}".encode())
    built = read(tmp_path)
    publication = publish(built, store.bucket)

    files = {f"{name}-1.0.0-r0.apk": body for name, body in packages.items()}
    expected = {f"{store.folder}/{arch}/{name}": body for arch in ("aarch64", "x86_64") for name, body in files.items()}
    expected |= {f"{store.folder}/{a}/APKINDEX.tar.gz": f"the index for {a}".encode() for a in ("aarch64", "x86_64")}
    expected |= {f"{store.folder}/{each.arch}/packages.json": each.to_json().encode() for each in built}
    expected[f"{store.location.prefix}/keys/acme-notes.rsa.pub"] = b"a public key\n"
    assert store.objects() == expected
    root = f"{store.server.endpoint}/{store.location.name}"
    assert publication.repository_path == store.folder
    assert publication.repository_url == f"{root}/{store.folder}"
    assert publication.public_key_path == f"{store.location.prefix}/keys/acme-notes.rsa.pub"
    assert publication.public_key_url == f"{root}/{publication.public_key_path}"
    assert set(publication.uploaded) == set(expected)
    assert publication.skipped == ()
    with urllib.request.urlopen(f"{publication.repository_url}/x86_64/notes0-1.0.0-r0.apk") as answer:
        assert answer.read() == packages["notes0"]


def test_objects_say_how_long_they_may_be_kept(store: Store, tmp_path: Path) -> None:
    built = repository(tmp_path, {**some_packages(1), "large": os.urandom(LARGE)})
    sent: dict[str, dict[str, str]] = {}

    def note(request: Request) -> None:
        if "Cache-Control" in request.headers:
            sent[request.path.split("?")[0].rpartition("/")[2]] = {
                name.lower(): value for name, value in request.headers.items()
            }

    with proxy(store.server.endpoint, before=note) as endpoint:
        publish((built,), Bucket(store.location, endpoint_url=endpoint, env=store.server.env))
    index, public_key, manifest = (sent[name] for name in ("APKINDEX.tar.gz", "acme-notes.rsa.pub", "packages.json"))
    packages = [sent["notes0-1.0.0-r0.apk"], sent["large-1.0.0-r0.apk"]]
    for item in (*packages, public_key, manifest):
        assert item["cache-control"] == "public, max-age=31536000, immutable"
    assert index["cache-control"] == "no-cache"
    # What SeaweedFS makes of it is another story: it guesses by the name.
    assert {item["content-type"] for item in (*packages, index)} == {"application/octet-stream"}
    assert public_key["content-type"] == "text/plain; charset=utf-8"
    assert manifest["content-type"] == "application/json"
    assert [item["x-amz-meta-sha256"] for item in packages] == [package.sha256 for package in built.packages]
    assert not any("content-encoding" in item for item in sent.values())
    assert [item.get("if-none-match") for item in (packages[0], public_key, index)] == ["*"] * 3


def test_packages_come_first_and_indexes_last(store: Store, tmp_path: Path) -> None:
    for arch in ("aarch64", "x86_64"):
        repository(tmp_path, some_packages(5), arch=arch)
    arrived: list[tuple[str, int, int]] = []
    publish(read(tmp_path), store.bucket, on_progress=lambda *what: arrived.append(what))
    titles = list(dict.fromkeys(title for title, _, _ in arrived))
    assert all(title.endswith(".apk") for title in titles[:10])
    assert titles[10] == "acme-notes.rsa.pub"
    assert sorted(titles[11:13]) == ["aarch64/packages.json", "x86_64/packages.json"]
    assert sorted(titles[13:]) == ["aarch64/APKINDEX.tar.gz", "x86_64/APKINDEX.tar.gz"]
    done = [count for _, count, _ in arrived]
    assert done == sorted(done)
    assert {total for _, _, total in arrived} == {done[-1]}


def test_what_is_there_already_is_skipped(store: Store, tmp_path: Path) -> None:
    built = repository(tmp_path, {**some_packages(), "large": os.urandom(LARGE)})
    first = publish((built,), store.bucket)
    second = publish((built,), store.bucket)
    assert (second.uploaded, second.skipped) == ((), first.uploaded)


def test_a_large_package_goes_in_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_SECONDS", 1e9)  # a step is a part, however slow this machine is
    body = os.urandom(LARGE)
    built = repository(tmp_path, {"large": body})
    steps: list[int] = []
    publication = publish((built,), store.bucket, on_progress=lambda _title, done, _total: steps.append(done))
    assert store.get(publication.uploaded[0]) == body
    head = store.client.head_object(Bucket=store.location.name, Key=publication.uploaded[0])
    assert head["ETag"].endswith('-3"')
    assert head["CacheControl"].endswith("immutable")
    assert head["Metadata"] == {"sha256": built.packages[0].sha256}
    assert len(set(steps) - {0}) == 6
    assert store.uploads() == []


@pytest.mark.parametrize("name", ["large", "notes1"])
def test_nothing_is_stored_where_one_package_is_not_the_one_that_was_built(
    store: Store, tmp_path: Path, name: str
) -> None:
    built = repository(tmp_path, {**some_packages(), "large": os.urandom(LARGE)})
    path = tmp_path / f"x86_64/{name}-1.0.0-r0.apk"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(UsageError, match=f"{name}-1.0.0-r0.apk is not the file that was built"):
        publish((built,), store.bucket)
    assert store.objects() == {}
    assert store.uploads() == []


def other_package(store: Store, built: Repository) -> str:
    name = f"{store.folder}/x86_64/notes1-1.0.0-r0.apk"
    store.put(name, b"x" * built.packages[1].size)
    return name


def other_size(store: Store, built: Repository) -> str:
    name = f"{store.folder}/x86_64/notes1-1.0.0-r0.apk"
    store.put(name, b"other bytes")
    return name


def other_manifest(store: Store, built: Repository) -> str:
    name = f"{store.folder}/x86_64/packages.json"
    store.put(name, built.to_json().replace("alpine/3.23", "alpine/3.22").encode())
    return name


def other_index(store: Store, built: Repository) -> str:
    name = f"{store.folder}/x86_64/APKINDEX.tar.gz"
    store.put(name, b"x" * built.index.stat().st_size)
    return name


def other_key(store: Store, built: Repository) -> str:
    name = f"{store.location.prefix}/keys/acme-notes.rsa.pub"
    store.put(name, b"x" * built.public_key.stat().st_size)
    return name


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        (other_package, "push a new commit"),
        (other_size, "push a new commit"),
        (other_manifest, "not committed"),
        (other_index, "another version, release or key, or with changes that are not committed"),
        (other_key, "Sign with the key that was used before"),
    ],
)
def test_other_bytes_are_never_overwritten(
    store: Store, tmp_path: Path, other: Callable[[Store, Repository], str], hint: str
) -> None:
    built = repository(tmp_path, some_packages())
    name = other(store, built)
    before = store.objects()
    with pytest.raises(BucketError) as caught:
        publish((built,), store.bucket)
    assert f"{name} is in s3://{store.location.name}" in caught.value.message
    assert "nothing was overwritten" in caught.value.message
    assert hint in caught.value.hint
    assert store.objects() == before, "something was stored although the push was refused"


def test_another_application_of_the_commit_is_told_to_be_another_project(store: Store, tmp_path: Path) -> None:
    publish((repository(tmp_path / "api", {"shop-api": b"1"}),), store.bucket)
    before = store.objects()
    with pytest.raises(BucketError, match="nothing was overwritten") as caught:
        publish((repository(tmp_path / "web", {"shop-web": b"2"}),), store.bucket)
    assert "shop-api of this commit is there already, and this is shop-web" in caught.value.hint
    assert "--project OWNER/NAME" in caught.value.hint
    assert store.objects() == before


def test_the_same_bytes_are_known_by_the_digest_that_was_stored_with_them(store: Store, tmp_path: Path) -> None:
    body = os.urandom(LARGE)
    built = repository(tmp_path, {"large": body})
    name = f"{store.folder}/x86_64/large-1.0.0-r0.apk"
    # One PUT where we have three parts: another ETag.
    store.client.put_object(
        Bucket=store.location.name, Key=name, Body=body, Metadata={"sha256": built.packages[0].sha256}
    )
    assert name in publish((built,), store.bucket).skipped


@pytest.mark.parametrize("same", [True, False])
def test_without_such_a_digest_the_object_is_read(store: Store, tmp_path: Path, *, same: bool) -> None:
    body = os.urandom(LARGE)
    built = repository(tmp_path, {"large": body})
    name = f"{store.folder}/x86_64/large-1.0.0-r0.apk"
    store.put(name, body if same else body[::-1])
    if same:
        assert name in publish((built,), store.bucket).skipped
    else:
        with pytest.raises(BucketError, match="with other bytes") as caught:
            publish((built,), store.bucket)
        assert "another version of pakman" in caught.value.hint


def test_two_versions_of_pakman_at_once_agree_on_one_packages_json(store: Store, tmp_path: Path) -> None:
    built = repository(tmp_path, some_packages())
    theirs = dataclasses.replace(built, builder=BuiltBy("abuild", "0.2.0")).to_json().encode()

    def quicker(request: Request) -> None:
        if request.method == "PUT" and request.path.endswith("packages.json"):
            store.put(f"{store.folder}/x86_64/packages.json", theirs)

    said: list[str] = []
    with proxy(store.server.endpoint, before=quicker) as endpoint:
        publication = publish(
            (built,), Bucket(store.location, endpoint_url=endpoint, env=store.server.env), on_notice=said.append
        )
    assert publication.skipped == (f"{store.folder}/x86_64/packages.json",)
    assert store.get(publication.skipped[0]) == theirs
    assert said == [
        f"{publication.skipped[0]} stays as it is: pakman 0.2.0 (builder: abuild) has made the same packages as "
        "pakman 0.1.0 (builder: embedded)"
    ]


def test_two_pushes_at_once_both_succeed(store: Store, tmp_path: Path) -> None:
    packages = {**some_packages(20), "large": os.urandom(LARGE)}
    built = repository(tmp_path, packages)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: publish((built,), store.bucket), range(2)))
    assert all(set(one.uploaded) | set(one.skipped) == set(store.objects()) for one in done)
    assert len(store.objects()) == 24
    assert store.get(f"{store.folder}/x86_64/large-1.0.0-r0.apk") == packages["large"]
    assert store.uploads() == []


def test_uploads_left_by_a_killed_push_end_with_the_next(store: Store, tmp_path: Path) -> None:
    built = repository(tmp_path, {"large": os.urandom(LARGE)})
    ours = f"{store.folder}/x86_64/large-1.0.0-r0.apk"
    theirs = f"{store.folder}/x86_64/larger-1.0.0-r0.apk"
    for name in (ours, ours, theirs):
        store.client.create_multipart_upload(Bucket=store.location.name, Key=name)
    publish((built,), store.bucket)
    assert store.uploads() == [theirs]


def listed(request: Request) -> str | None:
    """Return the prefix that a request lists uploads of; None where it is about anything else."""
    query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
    return query["prefix"][0] if request.method == "GET" and "uploads" in query else None


def test_uploads_end_where_only_those_of_one_key_are_listed(store: Store, tmp_path: Path) -> None:
    def of_one_key(request: Request, answer: Answer) -> Answer:
        # As MinIO does: github.com/minio/minio/issues/20989
        prefix = listed(request)
        if prefix is not None:
            answer.body = re.sub(
                rb"<Upload>.*?</Upload>",
                lambda found: found[0] if f"<Key>{prefix}</Key>".encode() in found[0] else b"",
                answer.body,
                flags=re.DOTALL,
            )
        return answer

    built = repository(tmp_path, {"large": os.urandom(LARGE)})
    store.client.create_multipart_upload(Bucket=store.location.name, Key=f"{store.folder}/x86_64/large-1.0.0-r0.apk")
    with proxy(store.server.endpoint, after=of_one_key) as endpoint:
        publish((built,), Bucket(store.location, endpoint_url=endpoint, env=store.server.env))
    assert store.uploads() == []


@pytest.mark.parametrize(("hours", "ended"), [(25, True), (23, False), (None, False)], ids=["day", "today", "timeless"])
def test_a_killed_push_of_another_commit_is_forgotten_after_a_day(
    store: Store, tmp_path: Path, hours: int | None, *, ended: bool
) -> None:
    def later(request: Request, answer: Answer) -> Answer:
        if listed(request) is not None:
            answer.headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
            if hours is not None:
                answer.headers["Date"] = formatdate(time.time() + hours * 3600, usegmt=True)
        return answer

    other = f"{store.location.prefix}/deployments/acme/notes/{'f' * 40}/x86_64/large-1.0.0-r0.apk"
    others = f"{store.location.prefix}/deployments/acme/notes-of-others/{COMMIT}/x86_64/large-1.0.0-r0.apk"
    for name in (other, others):
        store.client.create_multipart_upload(Bucket=store.location.name, Key=name)
    built = repository(tmp_path, {"large": os.urandom(LARGE)})
    with proxy(store.server.endpoint, after=later) as endpoint:
        publish((built,), Bucket(store.location, endpoint_url=endpoint, env=store.server.env))
    assert set(store.uploads()) == ({others} if ended else {others, other})


PUSH = """
import json, os, sys
from pathlib import Path
from pakman.bucket import Bucket, Location, upload
from pakman.publish import publish
from pakman.repository import read

upload._SECONDS = 1e9  # a step is a part, however slow this machine is

seen = {0}

def arrived(title, done, total):
    if done not in seen:  # else it only begins
        seen.add(done)
        print(title, flush=True)
        sys.stdin.readline()

publish(read(Path(sys.argv[1])), Bucket(Location(*sys.argv[2:]), env=dict(os.environ)), on_progress=arrived)
"""


def killed_push(store: Store, directory: Path, steps: int) -> None:
    """Push in a process of its own and kill it when `steps` things have arrived."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH, str(directory), store.location.name, store.location.prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **store.server.env},
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        for step in range(steps):
            if step:
                process.stdin.write(b"\n")
                process.stdin.flush()
            assert process.stdout.readline(), "the push ended early"
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -9


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real packages, one of them large, and their index; each has a file that says its name."""
    directory = tmp_path_factory.mktemp("signed")
    names = [f"shop{number}" for number in range(5)]
    for name in (*names, "large"):
        tree = tmp_path_factory.mktemp("tree")
        share = tree / "usr/share" / name
        share.mkdir(parents=True)
        (share / "name").write_text(name)
        if name == "large":
            (share / "bytes").write_bytes(os.urandom(LARGE))
        path = directory / ARCH / f"{name}-1.2.3-r4.apk"
        path.parent.mkdir(exist_ok=True)
        pack(path, tree, metadata=dataclasses.replace(named(name), arch=ARCH))
    files = sorted((directory / ARCH).glob("*.apk"))
    write_index(directory / ARCH / "APKINDEX.tar.gz", files, [key()], "tests")
    (directory / key().name).write_bytes(key().public_pem)
    packages = repository(tmp_path_factory.mktemp("shape"), {path.name[:-13]: path.read_bytes() for path in files})
    built = dataclasses.replace(
        packages,
        directory=directory,
        arch=ARCH,
        key_name=key().name,
        packages=tuple(
            dataclasses.replace(package, version="1.2.3-r4", arch=ARCH, path=path)
            for package, path in zip(packages.packages, files, strict=True)
        ),
    )
    built.manifest_file.write_text(built.to_json())
    return directory


def assert_readers_see_a_whole_repository_or_none(store: Store, tmp_path: Path) -> bool:
    """Return whether an index is there; each package it names is there then."""
    objects = store.objects()
    index = objects.get(f"{store.folder}/{ARCH}/APKINDEX.tar.gz")
    if index is None:
        return False
    (tmp_path / "index").write_bytes(index)
    named_there = {f"{stanza.name}-{stanza.version}.apk" for stanza in read_index(tmp_path / "index").stanzas}
    assert len(named_there) == 6
    assert {f"{store.folder}/{ARCH}/{name}" for name in named_there} < set(objects)
    return True


@pytest.mark.parametrize(
    ("steps", "published"),
    [(1, False), (2, False), (3, False), (6, False), (8, False), (9, False), (10, False), (11, True)],
    ids=["first", "second", "third", "small", "packages", "key", "manifest", "index"],
)
def test_a_killed_push_is_finished_by_the_next(
    store: Store, tmp_path: Path, signed: Path, steps: int, *, published: bool
) -> None:
    killed_push(store, signed, steps)
    assert assert_readers_see_a_whole_repository_or_none(store, tmp_path) == published
    publish(read(signed), store.bucket)
    assert assert_readers_see_a_whole_repository_or_none(store, tmp_path)
    assert store.uploads() == []


def installed(root: AlpineRoot, publication: Publication, *names: str) -> str:
    """Install from the bucket as a user does, and return what the packages' files say."""
    root.sh(
        """
        rm -rf /etc/apk/keys; mkdir /etc/apk/keys
        wget -q -P /etc/apk/keys "$KEY_URL"
        echo "$REPOSITORY_URL" > /etc/apk/repositories
        apk update
        """,
        KEY_URL=publication.public_key_url,
        REPOSITORY_URL=publication.repository_url,
    )
    root.sh(f"apk add {' '.join(names)}")
    return root.sh(f"cat {' '.join(f'/usr/share/{name}/name' for name in names)}")


@pytest.mark.alpine
def test_apk_installs_from_the_bucket(store: Store, signed: Path, alpine_root: AlpineRoot) -> None:
    publication = publish(read(signed), store.bucket)
    assert installed(alpine_root, publication, "shop3", "large") == "shop3large"


@pytest.mark.alpine
def test_apk_installs_what_the_push_after_a_killed_one_finished(
    store: Store, signed: Path, alpine_root: AlpineRoot
) -> None:
    killed_push(store, signed, 4)
    publication = publish(read(signed), store.bucket)
    assert installed(alpine_root, publication, "shop0", "shop4", "large") == "shop0shop4large"


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_file_that_changes_during_the_push_is_never_published(store: Store, tmp_path: Path, size: int) -> None:
    built = repository(tmp_path, {"notes": os.urandom(size), "other": os.urandom(LARGE)})

    class Slow(Bucket):
        """A bucket before whose every upload the file changes."""

        def put_new(self, *arguments: Any, **named: Any) -> Any:
            path = built.packages[0].path
            path.write_bytes(path.read_bytes()[::-1])
            return super().put_new(*arguments, **named)

    with pytest.raises(BucketError, match=r"notes-1\.0\.0-r0\.apk changed while it was being pushed"):
        publish((built,), Slow(store.location, env=store.server.env))
    assert f"{store.folder}/x86_64/notes-1.0.0-r0.apk" not in store.objects()
    assert f"{store.folder}/x86_64/APKINDEX.tar.gz" not in store.objects()
    assert store.uploads() == []


@pytest.fixture
def interrupting() -> Iterator[Callable[..., None]]:
    """A listener that is tired of it all after two parts."""
    seen: set[int] = set()

    def listen(_title: str, done: int, _total: int) -> None:
        seen.add(done)
        if len(seen - {0}) == 2:
            raise KeyboardInterrupt

    yield listen
    assert len(seen) >= 3


def test_an_interrupted_push_leaves_no_upload_behind(
    store: Store, tmp_path: Path, interrupting: Callable[..., None]
) -> None:
    built = repository(tmp_path, {"large": os.urandom(LARGE)})
    with pytest.raises(KeyboardInterrupt):
        publish((built,), store.bucket, on_progress=interrupting)
    assert store.objects() == {}
    assert store.uploads() == []


def test_a_file_of_many_parts_is_never_whole_in_memory(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    code = (
        "import os, re, sys\nfrom pathlib import Path\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from pakman.bucket import Bucket, Location, content\n"
        "bucket = Bucket(Location(*sys.argv[2:]), env=dict(os.environ), concurrency=2)\n"
        "with ThreadPoolExecutor(2) as parts:\n"
        "    found = content.read(Path(sys.argv[1]))\n"
        "    assert bucket.put_new(sys.argv[3] + '/sparse', found, content_type='a/b', cache_control='no-cache',"
        " parts=parts) == 'stored'\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), store.location.name, store.location.prefix],
        env={**os.environ, **store.server.env},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) < 130_000
    assert read_content(path).parts == 25

"""SIGKILL at any point: what readers see is in order then, and the next run leaves what one undisturbed would have."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pakman.bucket import Location
from tests.packages import key as key_called
from tests.processes import kill, start
from tests.proxy import Request, proxy
from tests.readers import Reader
from tests.repositories import signed_repository
from tests.servers import S3Server
from tests.stores import ARCH, KEY, Store, pem

pytestmark = pytest.mark.s3

POINTS = int(os.environ.get("PAKMAN_TEST_KILLS", "24"))
"""Of all the requests that a run makes; more than a few hundred are the same ones again."""
BUCKET = "killed"
LARGE = 9 << 20
"""Bytes: two parts."""
OTHER = "aarch64" if ARCH == "x86_64" else "x86_64"


@dataclass
class Scene:
    """A bucket in some state, and a run that is to be killed there."""

    reader: Reader
    argv: list[str]
    log: Path
    requests: int = 0
    """That it makes when nobody disturbs it."""
    expected: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """What is in the bucket then."""

    def __post_init__(self) -> None:
        self._client = self.reader.store.client
        listed = self.reader.listed()
        answers = {key: self._client.get_object(Bucket=BUCKET, Key=key) for key in listed}
        self._before = {
            key: {"Body": answer["Body"].read(), "Metadata": answer["Metadata"], "ContentType": answer["ContentType"]}
            for key, answer in answers.items()
        }
        self._etags = {key: etag for key, (etag, _) in listed.items()}

    def restore(self) -> None:
        """Make the bucket what it was at first."""
        for upload in self.reader.uploads():
            self._client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        now = self.reader.listed()
        for key in now.keys() - self._before.keys():
            self._client.delete_object(Bucket=BUCKET, Key=key)
        for key, thing in self._before.items():
            if key not in now or now[key][0] != self._etags[key]:
                self._client.put_object(Bucket=BUCKET, Key=key, **thing)

    def run(self) -> int | None:
        """Run it to its end, and count its requests."""
        seen: list[Request] = []
        with proxy(self.reader.store.server.endpoint, begun=seen.append) as endpoint:
            process = start(self.argv, {**self.reader.store.server.env, "AWS_ENDPOINT_URL": endpoint}, self.log)
            process.join()
        self.requests = len(seen)
        return process.exitcode

    def kill(self, number: int, *, is_lost: bool) -> int | None:
        """Kill it at its request of this number, which is lost, or which the server still heeds; return its status."""
        started = threading.Event()

        def reached(request: Request) -> None:
            if request.number == number:
                started.wait()
                kill(process)
                if is_lost:
                    raise ConnectionResetError

        when: dict[str, Any] = {"begun" if is_lost else "before": reached}
        with proxy(self.reader.store.server.endpoint, **when) as endpoint:
            process = start(self.argv, {**self.reader.store.server.env, "AWS_ENDPOINT_URL": endpoint}, self.log)
            started.set()
            process.join()
        return process.exitcode


@pytest.fixture(scope="module")
def scenes(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """Each run, with what it finds in the bucket."""
    client = s3_server.client()
    client.create_bucket(Bucket=BUCKET)
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "key.pem").write_bytes(pem(key_called(KEY)))
    log = folder / "log"

    def built(arch: str, version: str, *more: str) -> str:
        directory = folder / f"{version}-{arch}"
        if not directory.exists():
            commit = f"{int(version.replace('.', '')):040x}"
            signed_repository(
                directory,
                f"{version}-r0",
                arch=arch,
                commit=commit,
                names=("notes", *more),
                sizes={"notes-large": LARGE},
            )
        return str(directory)

    def flags(name: str) -> list[str]:
        return ["--bucket", f"s3://{BUCKET}/{name}", "--public-url", "https://packages.example.com"]

    def push(name: str, directory: str, *more: str) -> None:
        process = start(["push", directory, *flags(name), *more], s3_server.env, log)
        process.join()
        assert process.exitcode == 0, log.read_text()

    channel = ("--channel", "stable", "--signing-key", str(folder / "key.pem"))
    large = ("notes-openrc", "notes-large")
    push("push", built(ARCH, "1.0.0"), *channel)
    push("release", built(ARCH, "1.0.0"), *channel)
    push("release", built(ARCH, "1.1.0", *large))
    push("release", built(OTHER, "1.1.0"))
    runs = {
        "push": ["push", built(ARCH, "1.1.0", *large)],
        "release": ["release", f"--sha={110:040x}", "--project=acme/notes", f"--expect={ARCH},{OTHER}"],
    }
    found = {}
    for name, argv in runs.items():
        store = Store(s3_server, Location(BUCKET, name), client)
        scene = Scene(Reader(store, folder / "read"), [*argv, *flags(name), *channel], log)
        assert scene.run() == 0, log.read_text()
        scene.expected = scene.reader.listed()
        found[name] = scene
    return found


def points(count: int) -> Iterator[tuple[str, float, bool, float]]:
    """Yield where runs are killed: how far in its requests, whether that one is lost, how far in the second run."""
    draw = random.Random(20261121)
    for number in range(count):
        second = draw.random() if number % 4 == 0 else 1.0
        yield ("push", "release")[number % 2], (number + draw.random()) / count, draw.random() < 0.5, second


@pytest.mark.parametrize(
    ("name", "place", "is_lost", "second"),
    list(points(POINTS)),
    ids=lambda value: f"{value:.3f}" if isinstance(value, float) else str(value),
)
def test_a_run_that_was_killed_is_finished_by_the_next(
    scenes: dict[str, Scene], name: str, place: float, *, is_lost: bool, second: float
) -> None:
    scene = scenes[name]
    scene.restore()
    scene.reader.look()
    assert scene.kill(1 + int(place * scene.requests), is_lost=is_lost) == -9
    scene.reader.look()
    if second < 1:
        # What is there already is not sent again: it may come to its end before it is killed.
        assert scene.kill(1 + int(second * scene.requests), is_lost=is_lost) in (-9, 0)
        scene.reader.look()
    assert scene.run() == 0, scene.log.read_text()
    assert scene.reader.listed() == scene.expected
    assert scene.reader.uploads() == []
    scene.reader.look()

"""How a push reaches a server, whoever runs it: addresses, credentials, headers, and how much at the same time."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

import pytest

from pakman import arguments, shipping
from pakman.bucket import Bucket, Location
from pakman.publish import publish
from pakman.repository import Repository
from tests.proxy import Answer, Request, proxy
from tests.repositories import repository
from tests.servers import S3Server

pytestmark = pytest.mark.s3

LARGE = 17 << 20
"""Bytes: three parts."""


@pytest.fixture(scope="module")
def bucket_name(s3_server: S3Server) -> str:
    """A bucket that is there."""
    s3_server.client().create_bucket(Bucket="access")
    return "access"


@pytest.fixture
def location(bucket_name: str) -> Location:
    """Room for one test."""
    return Location(bucket_name, f"t{uuid.uuid4().hex[:12]}")


def asked_for(location: Location, server: S3Server, *flags: str) -> Bucket:
    """Return the bucket that a command line names."""
    words = ["push", "packages", f"--bucket={location}", *flags]
    return shipping.bucket_for(arguments.parser("push").parse_args(words), server.env)


def built(directory: Path, small: int = 2) -> Repository:
    """Some packages, one of them large."""
    packages = {f"notes{number}": os.urandom(3000) for number in range(small)}
    return repository(directory / "built", {**packages, "large": os.urandom(LARGE)})


class Crowd:
    """Counts how many requests a proxy has at the same time, each of which takes a while."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def before(self, request: Request) -> None:
        if request.method == "PUT":
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            time.sleep(0.05)

    def after(self, request: Request, answer: Answer) -> Answer:
        if request.method == "PUT":
            with self._lock:
                self._now -= 1
        return answer


@pytest.mark.parametrize(("concurrency", "most"), [(1, {1}), (4, {4, 5})])
def test_no_more_files_travel_at_the_same_time_than_was_said(
    s3_server: S3Server, location: Location, tmp_path: Path, concurrency: int, most: set[int]
) -> None:
    crowd = Crowd()
    with proxy(s3_server.endpoint, before=crowd.before, after=crowd.after) as endpoint:
        bucket = asked_for(location, s3_server, f"--endpoint-url={endpoint}", f"--concurrency={concurrency}")
        publish((built(tmp_path, small=12),), bucket)
    # Of a large file, a quarter as many parts, two at least, beside the other files.
    assert crowd.most in most

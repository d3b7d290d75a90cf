"""Small objects that are replaced under a condition, on a real server and on one that does not know conditions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pakman.bucket import Bucket, Location, Patience
from pakman.errors import BucketError
from tests.proxy import Answer, Request, proxy, s3_error
from tests.servers import S3Server

pytestmark = pytest.mark.s3

TEXT = {"content_type": "text/plain", "cache_control": "no-cache"}


def opened(server: S3Server, location: Location, endpoint: str | None = None) -> Bucket:
    """Open a bucket that tries everything twice."""
    return Bucket(location, endpoint_url=endpoint, env=server.env, patience=Patience(5, 30, 2))


def test_what_nobody_has_changed_is_replaced(s3_server: S3Server, location: Location) -> None:
    bucket, key = opened(s3_server, location), location.key("word")
    assert bucket.read(key, 10) is None
    first = bucket.swap(key, b"one", over=None, **TEXT)
    assert first is not None
    assert bucket.swap(key, b"two", over=None, **TEXT) is None
    second = bucket.swap(key, b"two", over=first, **TEXT)
    assert second is not None
    assert bucket.swap(key, b"three", over=first, **TEXT) is None
    held = bucket.read(key, 10)
    assert held is not None
    assert (held.body, held.etag) == (b"two", second)
    assert held.modified > 1.7e9
    bucket.delete([key, key])
    assert bucket.read(key, 10) is None
    assert bucket.swap(key, b"four", over=second, **TEXT) is None, "what should be replaced is gone"


def test_what_is_too_large_is_refused(s3_server: S3Server, location: Location) -> None:
    bucket, key = opened(s3_server, location), location.key("word")
    bucket.swap(key, b"12345", over=None, **TEXT)
    held = bucket.read(key, 5)
    assert held is not None
    assert held.body == b"12345"
    with pytest.raises(BucketError, match="larger than 4 bytes"):
        bucket.read(key, 4)


def test_sixteen_that_count_at_the_same_time_lose_nothing(s3_server: S3Server, location: Location) -> None:
    key = location.key("counter")
    opened(s3_server, location).swap(key, b"0", over=None, **TEXT)
    start = threading.Barrier(16)

    def count() -> None:
        bucket = opened(s3_server, location)
        start.wait()
        for _ in range(4):
            while True:
                held = bucket.read(key, 10)
                assert held is not None
                if bucket.swap(key, b"%d" % (int(held.body) + 1), over=held.etag, **TEXT):
                    break

    with ThreadPoolExecutor(16) as threads:
        for each in [threads.submit(count) for _ in range(16)]:
            each.result()
    held = opened(s3_server, location).read(key, 10)
    assert held is not None
    assert held.body == b"64"


@pytest.mark.parametrize("ignored", ["if-match", "if-none-match"])
def test_a_server_that_ignores_conditions_is_found_out(s3_server: S3Server, location: Location, ignored: str) -> None:
    def after(request: Request, answer: Answer) -> Answer:
        is_meant = any(name.lower() == ignored for name in request.headers)
        return Answer(200, headers={"ETag": '"0"'}) if is_meant and answer.status == 412 else answer

    with proxy(s3_server.endpoint, after=after) as endpoint:
        bucket = opened(s3_server, location, endpoint)
        with pytest.raises(BucketError, match="does not heed the conditions of a write") as caught:
            bucket.refuse_without_conditions()
    assert "push without --channel" in caught.value.hint
    assert opened(s3_server, location).list(f"{location.prefix}/") == {}


def test_a_server_that_refuses_conditions_is_found_out(s3_server: S3Server, location: Location) -> None:
    def before(request: Request) -> Answer | None:
        if request.method == "DELETE":
            # Who pushes need not have the right to delete.
            return s3_error(403, "AccessDenied")
        is_conditional = any(name.lower() in ("if-match", "if-none-match") for name in request.headers)
        return s3_error(501, "NotImplemented") if is_conditional else None

    with proxy(s3_server.endpoint, before=before) as endpoint:
        bucket = opened(s3_server, location, endpoint)
        with pytest.raises(BucketError, match="does not heed the conditions of a write"):
            bucket.refuse_without_conditions()


def test_a_server_that_heeds_them_is_asked_once_and_only_one_object_is_left(
    s3_server: S3Server, location: Location
) -> None:
    asked: list[str] = []
    with proxy(s3_server.endpoint, before=lambda request: asked.append(request.method)) as endpoint:
        bucket = opened(s3_server, location, endpoint)
        bucket.refuse_without_conditions()
        assert asked == ["PUT"] * 3
        bucket.refuse_without_conditions()
        assert len(asked) == 3
        # No right to delete is needed, and a probe that is killed leaves nothing else behind.
        opened(s3_server, location, endpoint).refuse_without_conditions()
        assert asked == ["PUT"] * 5
    assert list(opened(s3_server, location).list(f"{location.prefix}/") or {}) == [location.key("conditional-writes")]


def test_an_answer_that_breaks_off_is_asked_for_again(s3_server: S3Server, location: Location) -> None:
    key = location.key("word")
    opened(s3_server, location).swap(key, b"the whole of it", over=None, **TEXT)
    broken: list[int] = []

    def after(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and not broken:
            broken.append(request.number)
            return Answer(answer.status, answer.body[:5], answer.headers, promised=len(answer.body))
        return answer

    with proxy(s3_server.endpoint, after=after) as endpoint:
        held = opened(s3_server, location, endpoint).read(key, 100)
    assert broken
    assert held is not None
    assert held.body == b"the whole of it"

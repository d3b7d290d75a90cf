"""What goes wrong between us and an S3 server: one sentence, a hint, exit 6, and nothing half-done that shows."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import logging
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pakman.bucket import Bucket, Location, Patience, content, waiting
from pakman.errors import BucketError
from pakman.publish import Publication, publish
from pakman.repository import Repository
from tests.proxy import After, Answer, Before, Request, proxy, s3_error, with_etag
from tests.repositories import repository
from tests.servers import S3Server, running_s3_server
from tests.test_documents import README

pytestmark = pytest.mark.s3

LARGE = 17 << 20
"""Bytes: three parts."""
PATIENCE = Patience(connect=5, read=30, attempts=2)


@pytest.fixture
def built(tmp_path: Path) -> Repository:
    """Three packages, one of them large."""
    packages = {"notes": os.urandom(3000), "notes-openrc": os.urandom(4000), "large": os.urandom(LARGE)}
    return repository(tmp_path / "built", packages)


def opened(
    server: S3Server,
    location: Location,
    endpoint: str | None = None,
    patience: Patience = PATIENCE,
    on_wait: Callable[[str], None] = lambda _sentence: None,
    **env: str,
) -> Bucket:
    """Open a bucket that tries everything twice; `env` overrides the usual variables."""
    return Bucket(location, endpoint_url=endpoint, env={**server.env, **env}, patience=patience, on_wait=on_wait)


def refused(built: Repository, bucket: Bucket, secret: str) -> BucketError:
    """Push, and return the sentence that it ends with."""
    with pytest.raises(BucketError) as caught:
        publish((built,), bucket)
    error = caught.value
    assert error.exit_code == 6
    assert "\n" not in error.message
    assert error.hint
    told = "".join(traceback.format_exception(error)) + error.message + error.hint + repr(error) + repr(bucket)
    assert secret not in told
    return error


def nothing_shows(server: S3Server, location: Location) -> bool:
    """Say whether readers see no index."""
    found = opened(server, location).list(f"{location.prefix}/")
    assert found is not None
    return not any(key.endswith("APKINDEX.tar.gz") for key in found)


@pytest.mark.parametrize(
    ("env", "message", "hint"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody-knows-me"}, "does not know this access key id", "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "wr0ng-s3cr3t"}, "the secret access key is not the one", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_wrong_credentials(
    s3_server: S3Server,
    location: Location,
    built: Repository,
    caplog: pytest.LogCaptureFixture,
    env: dict[str, str],
    message: str,
    hint: str,
) -> None:
    caplog.set_level(logging.DEBUG, "pakman")
    secret = next(iter(env.values()))
    error = refused(built, Bucket(location, env={**s3_server.env, **env}), secret)
    assert message in error.message
    assert str(location) in error.message
    assert hint in error.hint
    assert secret not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("pakman"))


def test_no_such_bucket(s3_server: S3Server, built: Repository) -> None:
    error = refused(built, opened(s3_server, Location("nonesuch")), s3_server.secret_access_key)
    assert error.message == f"s3://nonesuch at {s3_server.endpoint}: there is no such bucket"
    assert "make it first" in error.hint


def test_nobody_there(s3_server: S3Server, location: Location, built: Repository) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
    assert f"nobody answers at {endpoint}" in error.message
    assert "whether it is running" in error.hint


@contextlib.contextmanager
def talking(answer: bytes | None) -> Iterator[str]:
    """Yield the address of a server that says this to everybody, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:
        stopping = threading.Event()
        server.settimeout(0.05)

        def talk() -> None:
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    connection, _ = server.accept()
                    connections.enter_context(connection)
                    if answer is not None:
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopping.set()
            thread.join()


PAGE = b"<!DOCTYPE html><html><head><title>Welcome<br></title></head><body>It works!</body></html>"
XHTML = b"<html><head><title>Welcome</title></head><body>It works!</body></html>"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        b"\x00\xff" * 500,
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE),
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(XHTML), XHTML),
        b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["ssh", "noise", "silence", "html", "xhtml", "404", "json", "empty"],
)
def test_somebody_else_is_there(s3_server: S3Server, location: Location, built: Repository, answer: bytes) -> None:
    with talking(answer) as endpoint:
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
    assert "what answers there is not an S3 server" in error.message
    assert "address" in error.hint


@pytest.mark.parametrize("body", [b"<ListBucketResult>", b"<ListBucketResult><Na", b"<?xml version='1.0'?>"])
def test_an_answer_that_breaks_off(s3_server: S3Server, location: Location, built: Repository, body: bytes) -> None:
    with talking(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + body) as endpoint:
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
    assert "the connection broke" in error.message
    assert "run it again" in error.hint


@pytest.fixture
def _talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say each time that something is asked again, which is at once."""
    monkeypatch.setattr(waiting, "_SECONDS", 0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda _self, _context: 0.01)


@pytest.mark.usefixtures("_talkative")
def test_a_server_that_hangs(s3_server: S3Server, location: Location, built: Repository) -> None:
    said: list[str] = []
    with talking(None) as endpoint:
        bucket = opened(s3_server, location, endpoint, Patience(first=0.2), said.append)
        began = time.monotonic()
        error = refused(built, bucket, s3_server.secret_access_key)
        # Four times the first answer's patience, not the others', which is sixty seconds.
        assert time.monotonic() - began < 30
    assert said == [f"{endpoint}: no answer within 0.2 seconds; asked again"] * 3
    assert "took the request, but did not answer in time" in error.message
    assert "run it again" in error.hint


def only(method: str, answer: Answer, *, path: str = "") -> Before:
    """Answer requests of this method, whose path has this in it, and leave the others to the server."""
    return lambda request: answer if request.method == method and path in request.path else None


@pytest.mark.parametrize(
    ("before", "message", "hint"),
    [
        (only("PUT", s3_error(507, "InsufficientStorage")), "the server has no room left", "make room"),
        (only("PUT", Answer(507)), "the server has no room left", "make room"),
        (only("PUT", s3_error(507, "XMinioStorageFull")), "the server has no room left", "make room"),
        (
            only("PUT", s3_error(500, "InternalError")),
            "failed, again and again (InternalError)",
            "its disk may be full",
        ),
        (only("PUT", s3_error(503, "SlowDown")), "the server has too much to do", "lower --concurrency"),
        (only("PUT", s3_error(403, "AccessDenied")), "the credentials do not allow this", "s3:PutObject"),
        (only("PUT", s3_error(400, "ExpiredToken")), "the session token has expired", "get new credentials"),
        (only("GET", s3_error(400, "InvalidToken")), "does not take the session token", "AWS_SESSION_TOKEN"),
        (only("GET", s3_error(403, "RequestTimeTooSkewed")), "clock and the server's are too far apart", "clock"),
        (only("GET", s3_error(301, "PermanentRedirect", Region="eu-north-1")), "in another region", "eu-north-1"),
        (only("GET", s3_error(400, "AuthorizationHeaderMalformed")), "in another region", "--region"),
        (only("POST", s3_error(404, "NoSuchBucket")), "there is no such bucket", "make it first"),
        (only("PUT", s3_error(400, "BadDigest")), "the bytes changed on their way", "memory"),
        (only("PUT", s3_error(418, "ShortAndStout")), "the server refused: ShortAndStout (418)", "log"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_what_servers_refuse(
    s3_server: S3Server, location: Location, built: Repository, before: Before, message: str, hint: str
) -> None:
    with proxy(s3_server.endpoint, before=before) as endpoint:
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
    assert message in error.message
    assert hint in error.hint
    assert nothing_shows(s3_server, location)


@pytest.mark.parametrize(
    ("method", "ask", "rights"),
    [
        ("PUT", lambda bucket, key: bucket.copy(key, f"{key}-2", cache_control="no-cache", notes={}), {"Get", "Put"}),
        (
            "PUT",
            lambda bucket, key: bucket.swap(key, b"2", over="1", content_type="a/b", cache_control="no-cache"),
            {"Get", "Put"},
        ),
        ("GET", lambda bucket, key: bucket.sha256(key), {"Get"}),
        ("GET", lambda bucket, _key: bucket.now(), {"List"}),
        ("DELETE", lambda bucket, key: bucket.delete([key]), {"Delete"}),
    ],
    ids=["copy", "replace", "read", "list", "delete"],
)
def test_the_right_that_is_missing_is_named(
    s3_server: S3Server, location: Location, method: str, ask: Callable[[Bucket, str], object], rights: set[str]
) -> None:
    key = location.key("one")
    s3_server.client().put_object(Bucket=location.name, Key=key, Body=b"1")
    with proxy(s3_server.endpoint, before=only(method, s3_error(403, "AccessDenied"))) as endpoint:
        bucket = opened(s3_server, location, endpoint)
        with pytest.raises(BucketError, match="the credentials do not allow this") as caught:
            ask(bucket, key)
    named = set(re.findall(r"s3:\w+", caught.value.hint))
    assert named == {f"s3:{each}{'Bucket' if each == 'List' else 'Object'}" for each in rights}
    # The README's table says the same of them.
    rows = re.findall(r"^\| (`s3:.*) \| (.*) \|$", README, re.MULTILINE)
    what_for = {right: text for cell, text in rows for right in re.findall(r"`(s3:\w+)`", cell)}
    for command in re.findall(r"prune|rollback|release|deploy|repository", caught.value.hint):
        assert all(command in what_for[right] for right in named)
    assert named <= what_for.keys()


def test_a_connection_that_breaks(s3_server: S3Server, location: Location, built: Repository) -> None:
    def hang_up(request: Request) -> None:
        if request.method == "PUT" and "notes-openrc" in request.path:
            raise ConnectionResetError

    with proxy(s3_server.endpoint, before=hang_up) as endpoint:
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
    assert "notes-openrc-1.0.0-r0.apk in s3://" in error.message
    assert "the connection broke" in error.message
    assert "run it again" in error.hint
    assert nothing_shows(s3_server, location)


def test_an_object_that_breaks_off_while_it_is_read(s3_server: S3Server, location: Location, built: Repository) -> None:
    def break_off(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and "notes-openrc" in request.path:
            answer.promised = len(answer.body)
            answer.body = answer.body[:100]
        return other_etag(request, answer)

    with proxy(s3_server.endpoint, after=break_off) as endpoint:
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
    assert "notes-openrc-1.0.0-r0.apk in s3://" in error.message
    assert "the connection broke" in error.message


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_goes_on_where_it_broke_off(
    s3_server: S3Server, location: Location, tmp_path: Path, *, knows_ranges: bool
) -> None:
    body, key = os.urandom(5 << 20), location.key("large")
    etag = s3_server.client().put_object(Bucket=location.name, Key=key, Body=body)["ETag"]
    asked: list[str] = []

    def answered(request: Request) -> Answer | None:
        asked.append(request.headers.get("Range", ""))
        return Answer(200, body, {"ETag": etag}) if asked[-1] and not knows_ranges else None

    def break_off(request: Request, answer: Answer) -> Answer:
        if len(asked) < 3:
            answer.promised, answer.body = len(answer.body), answer.body[: len(answer.body) // 2]
        return answer

    with (
        proxy(s3_server.endpoint, before=answered, after=break_off) as endpoint,
        (tmp_path / "file").open("wb") as file,
    ):
        opened(s3_server, location, endpoint, Patience(attempts=3)).download(key, file, len(body))
    assert (tmp_path / "file").read_bytes() == body
    assert asked == ["", "bytes=2621440-", "bytes=3932160-"][: 3 if knows_ranges else 2]


def test_a_server_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Repository) -> None:
    start = subprocess.Popen

    def full(argv: list[str], **arguments: Any) -> subprocess.Popen[bytes]:
        # It can write no file, and so no volume, of more than a megabyte.
        return start(["prlimit", "--fsize=1000000", *argv], **arguments)

    monkeypatch.setattr(subprocess, "Popen", full)
    with running_s3_server(tmp_path / "full") as server:
        location = Location("full")
        opened(server, location)._client.create_bucket(Bucket="full")
        error = refused(built, opened(server, location), server.secret_access_key)
        assert "the server failed, again and again (InternalError)" in error.message
        assert "its disk may be full" in error.hint


def first_time(method: str, path: str, answer: Answer | None) -> Before:
    """Answer a request once, or reset its connection where there is no answer."""
    left = [answer]

    def before(request: Request) -> Answer | None:
        if not left or request.method != method or path not in request.path:
            return None
        answer = left.pop()
        if answer is None:
            raise ConnectionResetError
        return answer

    return before


DRIPS = Answer(200, b"0123456789", {"ETag": '"0"', "Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT"}, drip=3)


@pytest.mark.usefixtures("_talkative")
@pytest.mark.parametrize(
    ("ask", "before", "words"),
    [
        ("push small", first_time("PUT", "/notes-openrc", Answer(200, seconds=60)), "no answer within 1 seconds"),
        ("push", first_time("PUT", "/notes-openrc", s3_error(503, "SlowDown")), "it answers 503"),
        ("push", first_time("PUT", "/notes-openrc", s3_error(429, "TooManyRequests")), "it answers 429"),
        ("push", first_time("POST", "?uploads", s3_error(500, "InternalError")), "it answers 500"),
        ("push", first_time("POST", "?uploads", None), "the connection broke"),
        ("download", first_time("GET", "/one", DRIPS), "no answer within 1 seconds"),
        ("read", first_time("GET", "/one", DRIPS), "no answer within 1 seconds"),
    ],
)
def test_what_is_asked_again_is_said(
    s3_server: S3Server, location: Location, built: Repository, ask: str, before: Before, words: str
) -> None:
    said: list[str] = []
    key = location.key("one")
    s3_server.client().put_object(Bucket=location.name, Key=key, Body=b"0123456789")
    with proxy(s3_server.endpoint, before=before) as endpoint:
        bucket = opened(s3_server, location, endpoint, Patience(read=1 if "within" in words else 30), said.append)
        if ask == "push":
            publish((built,), bucket)
        elif ask == "push small":
            publish((replace(built, packages=built.packages[:2]),), bucket)
        elif ask == "read":
            bucket.list(location.prefix)
            assert bucket.read(key, 10) is not None
        else:
            assert bucket.sha256(key) == hashlib.sha256(b"0123456789").hexdigest()
    # More than once where this machine is slow.
    assert set(said) == {f"{endpoint}: {words}; asked again"}


def test_of_many_that_wait_one_speaks(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_SECONDS", 6 * waiting._SECONDS)  # however slow this machine is
    said: list[str] = []
    packages = repository(tmp_path / "many", {f"notes{number}": os.urandom(100) for number in range(8)})
    refuse = each_first_time(s3_error(503, "SlowDown"))
    with proxy(
        s3_server.endpoint, before=lambda request: refuse(request) if request.method == "PUT" else None
    ) as endpoint:
        publish((packages,), opened(s3_server, location, endpoint, on_wait=said.append))
    assert said == [f"{endpoint}: it answers 503; asked again"]
    assert whole(packages, s3_server, location)


def pushed(built: Repository, server: S3Server, location: Location, before: Before, after: After) -> Publication:
    """Push through a proxy that misbehaves, and say what became of it."""
    with proxy(server.endpoint, before=before, after=after) as endpoint:
        return publish((built,), opened(server, location, endpoint))


def whole(built: Repository, server: S3Server, location: Location) -> bool:
    """Say whether all is there: a push that only has to skip."""
    return publish((built,), opened(server, location)).uploaded == ()


def passing(_request: Request) -> None:
    """Let everything through."""


def unchanged(_request: Request, answer: Answer) -> Answer:
    """Hand on what the server answered."""
    return answer


def each_first_time(answer: Answer | None) -> Before:
    """Fail the first try of everything; a second one goes through."""
    seen: set[tuple[str, str]] = set()

    def fail(request: Request) -> Answer | None:
        known = (request.method, request.path) in seen
        seen.add((request.method, request.path))
        return None if known else answer

    return fail


@pytest.mark.parametrize("answer", [s3_error(503, "SlowDown"), s3_error(500, "InternalError"), Answer(502)])
def test_what_fails_once_is_tried_again(
    s3_server: S3Server, location: Location, built: Repository, answer: Answer
) -> None:
    pushed(built, s3_server, location, each_first_time(answer), unchanged)
    assert whole(built, s3_server, location)


def test_an_answer_that_is_lost_is_not_a_loss(s3_server: S3Server, location: Location, built: Repository) -> None:
    lost: set[str] = set()

    def lose(request: Request, answer: Answer) -> Answer:
        # The object is there, but we are told otherwise: the second try finds it there.
        if request.method == "PUT" and "partNumber" not in request.path and request.path not in lost:
            lost.add(request.path)
            return s3_error(500, "InternalError")
        return answer

    publication = pushed(built, s3_server, location, passing, lose)
    assert len(lost) == 5
    assert set(publication.skipped) == {path.removeprefix(f"/{location.name}/") for path in lost}
    assert whole(built, s3_server, location)


def test_a_server_that_knows_no_conditions(s3_server: S3Server, location: Location, built: Repository) -> None:
    def refuse(request: Request) -> Answer | None:
        return s3_error(501, "NotImplemented") if request.headers.get("If-None-Match") else None

    publication = pushed(built, s3_server, location, refuse, unchanged)
    assert publication.skipped == ()
    assert whole(built, s3_server, location)
    # Nor is anything overwritten there: what is there has been looked up.
    built.index.write_bytes(b"another index")
    with pytest.raises(BucketError, match="with other bytes"):
        pushed(built, s3_server, location, refuse, unchanged)


def test_another_push_of_the_same_object_at_this_moment(
    s3_server: S3Server, location: Location, built: Repository
) -> None:
    conflict = s3_error(409, "ConditionalRequestConflict")
    once = each_first_time(conflict)
    twice = each_first_time(conflict)

    def refuse(request: Request) -> Answer | None:
        if not request.headers.get("If-None-Match"):
            return None
        return once(request) or twice(request)

    pushed(built, s3_server, location, refuse, unchanged)
    assert whole(built, s3_server, location)


def test_credentials_that_may_not_list(s3_server: S3Server, location: Location, built: Repository) -> None:
    def refuse(request: Request) -> Answer | None:
        return s3_error(403, "AccessDenied") if request.method == "GET" and "list-type=2" in request.path else None

    def blur(request: Request, answer: Answer) -> Answer:
        # Without the right to list, AWS does not say that something is not there.
        return Answer(403) if request.method == "HEAD" and answer.status == 404 else answer

    first = pushed(built, s3_server, location, refuse, blur)
    second = pushed(built, s3_server, location, refuse, blur)
    assert (first.skipped, second.uploaded) == ((), ())
    assert second.skipped == first.uploaded


def test_a_server_that_cannot_list_uploads(s3_server: S3Server, location: Location, built: Repository) -> None:
    def refuse(request: Request) -> Answer | None:
        return s3_error(501, "NotImplemented") if "uploads" in request.path and request.method == "GET" else None

    pushed(built, s3_server, location, refuse, unchanged)
    assert whole(built, s3_server, location)


NO_MD5 = '"00000000000000000000000000000000"'


def other_etag(request: Request, answer: Answer) -> Answer:
    """Answer as a server that encrypts: the ETag is no digest of the bytes."""
    is_whole = request.method in ("PUT", "HEAD") and "partNumber" not in request.path and answer.status == 200
    return with_etag(answer, NO_MD5) if is_whole else answer


def test_an_etag_that_proves_nothing_is_not_enough(s3_server: S3Server, location: Location, built: Repository) -> None:
    read: set[str] = set()

    def note(request: Request) -> None:
        if request.method == "GET" and ("/keys/" in request.path or "/deployments/" in request.path):
            read.add(request.path.split("?")[0])

    pushed(built, s3_server, location, note, other_etag)
    assert len(read) == 6
    assert whole(built, s3_server, location)


def test_what_arrives_damaged_is_found_out(s3_server: S3Server, location: Location, built: Repository) -> None:
    def damage(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and "notes-openrc" in request.path:
            answer.body = answer.body[::-1]
        return other_etag(request, answer)

    with pytest.raises(BucketError, match="what arrived is not what was sent") as caught:
        pushed(built, s3_server, location, passing, damage)
    assert "notes-openrc-1.0.0-r0.apk" in caught.value.message
    assert nothing_shows(s3_server, location)


def test_a_part_that_is_damaged_on_its_way_is_sent_again(
    s3_server: S3Server, location: Location, built: Repository
) -> None:
    damaged: list[str] = []

    def damage(request: Request, body: bytes) -> bytes:
        # What a proxy changes on a line without TLS: the second part, as often as nothing vouches for it.
        if "partNumber=2" not in request.path or "Content-MD5" in request.headers:
            return body
        damaged.append(request.path)
        return body[::-1]

    with proxy(s3_server.endpoint, between=damage) as endpoint:
        publish((built,), opened(s3_server, location, endpoint))
    assert len(damaged) == 1
    assert whole(built, s3_server, location)


def test_where_an_etag_is_no_md5_the_next_parts_carry_theirs(
    s3_server: S3Server, location: Location, built: Repository
) -> None:
    sent: list[bool] = []

    def note(request: Request) -> None:
        if "partNumber" in request.path:
            sent.append("Content-MD5" in request.headers)

    def blur(_request: Request, answer: Answer) -> Answer:
        return with_etag(answer, NO_MD5) if sent == [False] else answer

    with proxy(s3_server.endpoint, before=note, after=blur) as endpoint:
        publish((built,), Bucket(location, endpoint_url=endpoint, env=s3_server.env, concurrency=1))
    # The first one once more, and then the other two.
    assert sent == [False, True, True, True]
    assert whole(built, s3_server, location)


def test_a_large_upload_ends_where_something_else_has_failed(
    s3_server: S3Server, location: Location, built: Repository
) -> None:
    under_way, goes_on = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if "partNumber=1&" in request.path:
            under_way.set()
            goes_on.wait(30)

    large = next(each for each in built.packages if each.name == "large")
    ended: list[BaseException] = []

    def push(endpoint: str, parts: Executor) -> None:
        held = content.read(large.path)
        try:
            with contextlib.closing(opened(s3_server, location, endpoint)) as bucket:
                bucket.put_new(location.key("large"), held, content_type="a/b", cache_control="no-cache", parts=parts)
        except CancelledError as error:
            ended.append(error)

    with proxy(s3_server.endpoint, before=hold) as endpoint, ThreadPoolExecutor(1) as parts:
        thread = threading.Thread(target=push, args=(endpoint, parts), daemon=True)
        thread.start()
        assert under_way.wait(30)
        # What the failure of another file, or Ctrl-C, comes to: the other parts do not begin any more.
        parts.shutdown(wait=False, cancel_futures=True)
        goes_on.set()
        thread.join(30)
        assert not thread.is_alive()
    assert len(ended) == 1
    client = s3_server.client()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=location.name, Prefix=location.prefix)


def test_a_part_that_is_lost_leaves_no_upload_behind(
    s3_server: S3Server, location: Location, built: Repository
) -> None:
    broken = only("PUT", s3_error(500, "InternalError"), path="partNumber=2")
    with pytest.raises(BucketError, match="large-1"):
        pushed(built, s3_server, location, broken, unchanged)
    client = opened(s3_server, location)._client
    assert "Uploads" not in client.list_multipart_uploads(Bucket=location.name, Prefix=location.prefix)
    publish((built,), opened(s3_server, location))
    assert whole(built, s3_server, location)


def certificate(folder: Path) -> Path:
    """Make a key and a certificate of nobody's for 127.0.0.1, in one PEM file."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(private, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_a_server_that_speaks_no_tls(s3_server: S3Server, location: Location, built: Repository) -> None:
    without_scheme = s3_server.endpoint.removeprefix("http://")
    error = refused(built, opened(s3_server, location, without_scheme), s3_server.secret_access_key)
    assert error.message == f"{location} at https://{without_scheme}: it speaks no TLS"
    assert error.hint == f"write {s3_server.endpoint}"


def test_tls_with_a_certificate_of_ones_own(
    s3_server: S3Server, location: Location, built: Repository, tmp_path: Path
) -> None:
    file = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    seen: list[Request] = []

    with proxy(s3_server.endpoint, tls=tls, before=seen.append) as endpoint:
        error = refused(built, opened(s3_server, location, endpoint), s3_server.secret_access_key)
        assert "the server's TLS certificate is not trusted" in error.message
        assert "AWS_CA_BUNDLE" in error.hint
        assert seen == []
        # Without its scheme, too, an address is one of https.
        without_scheme = endpoint.removeprefix("https://")
        publication = publish((built,), opened(s3_server, location, without_scheme, AWS_CA_BUNDLE=str(file)))
    assert publication.skipped == ()
    assert whole(built, s3_server, location)

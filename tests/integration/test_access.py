"""How a push reaches a server, whoever runs it: addresses, credentials, headers, retries, and how much at once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from pakman import archive, arguments, cli, progress, pushed, shipping
from pakman.bucket import Bucket, Location, Patience, upload
from pakman.channels import Channel, adding
from pakman.errors import BucketError
from pakman.progress import Progress
from pakman.publish import publish
from pakman.repository import Repository
from tests.openid import ROLE, OpenIdProvider
from tests.packages import key
from tests.proxy import Answer, Request, proxy, s3_error
from tests.repositories import COMMIT, repository, signed_repository
from tests.servers import DOMAIN, S3Server

pytestmark = pytest.mark.s3

LARGE = 9 << 20
"""Bytes: two parts."""


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide what this machine has for boto3, and let it ask for checksums as it would by itself."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def asked_for(location: Location, env: dict[str, str], *flags: str) -> Bucket:
    """Return the bucket that a command line names."""
    words = ["push", "packages", f"--bucket={location}", *flags]
    said = Progress(io.StringIO(), "plain", time.monotonic)
    return shipping.bucket_for(arguments.parser("push").parse_args(words), env, said)


def built(directory: Path, small: int = 2, large: int = LARGE) -> Repository:
    """Some packages, one of them large."""
    packages = {f"notes{number}": os.urandom(3000) for number in range(small)}
    return repository(directory / "built", {**packages, **({"large": os.urandom(large)} if large else {})})


def is_whole(repository: Repository, server: S3Server, location: Location) -> bool:
    """Say whether all is there: a push that only has to skip."""
    return publish((repository,), Bucket(location, env=server.env)).uploaded == ()


# Where it is


def test_a_bucket_is_named_in_the_path_or_in_the_host(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = socket.getaddrinfo

    def here(host: Any, *rest: Any, **named: Any) -> Any:
        return find("127.0.0.1" if str(host).endswith(DOMAIN) else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    port = s3_server.endpoint.rpartition(":")[2]
    packages = built(tmp_path)
    skipped = []
    for style, address in (
        ("path", f"{DOMAIN}:{port}/{location.name}"),
        ("virtual", f"{location.name}.{DOMAIN}:{port}"),
    ):
        bucket = asked_for(
            location, s3_server.env, f"--endpoint-url=http://{DOMAIN}:{port}", f"--addressing-style={style}"
        )
        publication = publish((packages,), bucket)
        skipped.append(len(publication.skipped))
        assert publication.repository_url == f"http://{address}/{publication.repository_path}"
        with urllib.request.urlopen(f"{publication.repository_url}/x86_64/APKINDEX.tar.gz") as answer:
            assert answer.read() == b"an index"
    # The same bucket: the second push found all of the first.
    assert skipped == [0, 6]


def test_a_server_that_has_another_region_is_followed(s3_server: S3Server, location: Location, tmp_path: Path) -> None:
    again = 0

    def elsewhere(request: Request) -> Answer | None:
        # As MinIO with a region of its own says it.
        nonlocal again
        if "/eu-north-1/s3/" in request.headers["Authorization"]:
            return None
        again += request.method == "PUT"
        return s3_error(400, "AuthorizationHeaderMalformed", Region="eu-north-1")

    with proxy(s3_server.endpoint, before=elsewhere) as endpoint:
        env = {name: value for name, value in s3_server.env.items() if "REGION" not in name}
        packages = built(tmp_path, small=40)
        publish((packages,), asked_for(location, env, f"--endpoint-url={endpoint}", "--concurrency=4"))
    assert is_whole(packages, s3_server, location)
    assert again <= 6, "each file is sent twice"


# Who it is


@pytest.fixture
def role(s3_server: S3Server, openid_provider: OpenIdProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Variables as a job has them that may take a role; the file with its token."""
    token = tmp_path / "token"
    token.write_text(openid_provider.token())
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return token


def test_a_role_of_the_job_is_taken(s3_server: S3Server, location: Location, role: Path, tmp_path: Path) -> None:
    packages = built(tmp_path)
    assert cli.main(["push", str(packages.directory), f"--bucket={location}"]) == 0
    assert is_whole(packages, s3_server, location)


def test_a_role_that_the_job_may_not_take_is_a_sentence(
    location: Location, role: Path, openid_provider: OpenIdProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = openid_provider.token("repo:acme/notes:pull_request")
    role.write_text(token)
    assert cli.main(["push", str(built(tmp_path).directory), f"--bucket={location}"]) == 6
    said = capsys.readouterr().err
    assert f"pakman: error: {location} at http://127.0.0.1" in said
    assert "the role cannot be taken: " in said
    assert "AWS_ROLE_ARN" in said
    assert token not in said


def test_every_request_bears_the_session_token(
    s3_server: S3Server, location: Location, openid_provider: OpenIdProvider, tmp_path: Path
) -> None:
    service = boto3.client("sts", endpoint_url=s3_server.endpoint, region_name="us-east-1")
    found = service.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="tests", WebIdentityToken=openid_provider.token()
    )["Credentials"]
    env = {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
        "AWS_REGION": "us-east-1",
    }
    tokens: set[str | None] = set()
    with proxy(
        s3_server.endpoint, before=lambda request: tokens.add(request.headers.get("X-Amz-Security-Token"))
    ) as endpoint:
        packages = built(tmp_path)
        publish((packages,), asked_for(location, env, f"--endpoint-url={endpoint}"))
        assert tokens == {found["SessionToken"]}
        del env["AWS_SESSION_TOKEN"]
        with pytest.raises(BucketError):
            publish((packages,), asked_for(location, env, f"--endpoint-url={endpoint}"))
    assert is_whole(packages, s3_server, location)


@pytest.mark.parametrize("services", [True, False])
def test_a_profile_says_who_and_where(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, services: bool
) -> None:
    address = f"endpoint_url = {s3_server.endpoint}"
    (tmp_path / "config").write_text(
        "[profile ours]\nregion = eu-west-3\n"
        + (f"services = here\n[services here]\ns3 =\n  {address}\n" if services else f"{address}\n")
    )
    (tmp_path / "credentials").write_text(
        f"[ours]\naws_access_key_id = {s3_server.access_key_id}\n"
        f"aws_secret_access_key = {s3_server.secret_access_key}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "ours")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    packages = built(tmp_path, large=0)
    assert cli.main(["push", str(packages.directory), f"--bucket={location}"]) == 0
    assert is_whole(packages, s3_server, location)
    # Its server is no AWS, neither for URLs nor in sentences.
    bucket = asked_for(location, dict(os.environ))
    assert bucket.url("k") == f"{s3_server.endpoint}/{location.name}/k"
    assert s3_server.endpoint in repr(bucket)


@contextlib.contextmanager
def container(answer: Callable[[], tuple[int, bytes]]) -> Iterator[list[str | None]]:
    """Run a container's endpoint for credentials, with the variables for it; yield the tokens that it gets."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            status, body = answer()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/x")
        patch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-pod")
        patch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
        yield asked
        server.shutdown()
        thread.join()


def of_a_container(**more: Any) -> bytes:
    """Return an answer with credentials, which nobody knows unless `more` says others."""
    found = {"AccessKeyId": "some-id", "SecretAccessKey": "a-s3cr3t", "Token": None, **more}
    found.setdefault("Expiration", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200)))
    return json.dumps(found).encode()


def test_a_container_s_credentials_are_asked_for(s3_server: S3Server, location: Location, tmp_path: Path) -> None:
    found = of_a_container(AccessKeyId=s3_server.access_key_id, SecretAccessKey=s3_server.secret_access_key)
    with container(lambda: (200, found)) as asked:
        flags = [f"--bucket={location}", f"--endpoint-url={s3_server.endpoint}"]
        packages = built(tmp_path, large=0)
        assert cli.main(["push", str(packages.directory), *flags]) == 0
    assert asked == ["of-the-pod"]
    assert is_whole(packages, s3_server, location)


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, of_a_container().replace(b"Expiration", b"Until"), "the answer has no Expiration"),
        (200, of_a_container(Expiration="a-while"), "Unknown string format: a-while"),
        (200, of_a_container(Expiration="2000-01-01T00:00:00Z"), "the refreshed credentials are still expired"),
        (200, of_a_container(Expiration="2100-01-01"), "the answer is not what it should be"),
        (200, of_a_container(SecretAccessKey=None), "the answer is not what it should be"),
        (200, b"[]", "the answer is not what it should be"),
        (200, b"<html>a-s3cr3t</html>", "Unable to parse JSON"),
        (200, b"\xff", "can't decode byte 0xff"),
        (500, b"a-s3cr3t", "Received non 200 response 500\n"),
        (203, of_a_container(), "Received non 200 response 203\n"),
    ],
)
def test_credentials_that_a_container_does_not_give_are_a_sentence(
    location: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, body: bytes, sentence: str
) -> None:
    flags = [f"--bucket={location}", "--endpoint-url=http://127.0.0.1:1"]
    with container(lambda: (status, body)):
        assert cli.main(["push", str(built(tmp_path, small=1, large=0).directory), *flags]) == 6
    said = capsys.readouterr().err
    assert f"pakman: error: {location} at http://127.0.0.1:1: the credentials cannot be had: " in said
    assert sentence in said
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in said
    assert "a-s3cr3t" not in said


def test_credentials_that_a_container_no_longer_gives_are_a_sentence(
    s3_server: S3Server, location: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"AccessKeyId": s3_server.access_key_id, "SecretAccessKey": s3_server.secret_access_key}
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    answers = [of_a_container(**keys, Expiration=soon)] * 3
    flags = [f"--bucket={location}", f"--endpoint-url={s3_server.endpoint}"]
    with container(lambda: (200, answers.pop() if answers else b"{}")):
        # So little time is left that each request asks anew.
        assert cli.main(["push", str(built(tmp_path, small=4).directory), *flags]) == 6
    assert "the credentials cannot be had: the answer has no AccessKeyId" in capsys.readouterr().err


def test_a_role_s_token_that_is_not_there_is_a_sentence(
    location: Location, role: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    role.unlink()
    assert cli.main(["push", str(built(tmp_path).directory), f"--bucket={location}"]) == 6
    said = capsys.readouterr().err
    assert f"the credentials cannot be had: {role}: No such file or directory" in said
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in said


# What it is told


def test_no_checksum_is_sent_that_others_than_aws_refuse(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported")
    sent: list[Request] = []
    with proxy(s3_server.endpoint, before=sent.append) as endpoint:
        publish((built(tmp_path),), asked_for(location, s3_server.env, f"--endpoint-url={endpoint}"))
        bucket = asked_for(location, s3_server.env, f"--endpoint-url={endpoint}")
        signed = signed_repository(tmp_path / "signed")
        adding.add(Channel(bucket, "stable", [key()]), adding.built((signed,)), "notes")
        bucket.delete(["nothing"])
    assert {request.method for request in sent} == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    headers = {
        name.lower() for request in sent for name in request.headers if not name.lower().startswith("x-amz-meta-")
    }
    assert "x-amz-content-sha256" in headers
    assert not [name for name in headers if "checksum" in name or "trailer" in name]
    assert "content-encoding" not in headers


def bare(_request: Request, answer: Answer) -> Answer:
    """Answer as simpler servers do: no quotes around ETags, no namespace, none of AWS's own headers."""
    answer.body = re.sub(rb' xmlns="[^"]*"', b"", answer.body) if answer.body.startswith(b"<?xml") else answer.body
    answer.body = answer.body.replace(b"&#34;", b"").replace(b"&quot;", b"")
    answer.headers = {
        name: value.strip('"') if name.lower() == "etag" else value
        for name, value in answer.headers.items()
        if not name.lower().startswith("x-amz-") or name.lower().startswith("x-amz-meta-")
    }
    return answer


def test_a_server_of_another_make(s3_server: S3Server, location: Location, tmp_path: Path) -> None:
    packages = built(tmp_path)
    signed = signed_repository(tmp_path / "signed")
    with proxy(s3_server.endpoint, after=bare) as endpoint:
        flag = f"--endpoint-url={endpoint}"
        assert publish((packages,), asked_for(location, s3_server.env, flag)).skipped == ()
        assert publish((packages,), asked_for(location, s3_server.env, flag)).uploaded == ()
        channel = Channel(asked_for(location, s3_server.env, flag), "stable", [key()])
        for _ in range(2):
            adding.add(channel, adding.built((signed,)), "notes")
        live = channel.index("x86_64")
    assert live is not None
    assert len(live.stanzas) == len(signed.packages)
    assert is_whole(packages, s3_server, location)


def test_an_upload_whose_end_fails_with_a_success(s3_server: S3Server, location: Location, tmp_path: Path) -> None:
    failed: list[str] = []

    def fail(request: Request) -> Answer | None:
        # AWS begins to answer before it is done, and may find out only then.
        if request.method != "POST" or "uploadId" not in request.path or failed:
            return None
        failed.append(request.path)
        return Answer(200, s3_error(500, "InternalError").body)

    with proxy(s3_server.endpoint, before=fail) as endpoint:
        packages = built(tmp_path)
        publish((packages,), asked_for(location, s3_server.env, f"--endpoint-url={endpoint}"))
    assert failed
    assert is_whole(packages, s3_server, location)


def test_a_copy_is_made_in_one_request(s3_server: S3Server, location: Location) -> None:
    sent: list[str] = []
    body = os.urandom(LARGE)
    s3_server.client().put_object(Bucket=location.name, Key=location.key("one"), Body=body)
    with proxy(s3_server.endpoint, before=lambda request: sent.append(request.method)) as endpoint:
        bucket = asked_for(location, s3_server.env, f"--endpoint-url={endpoint}")
        bucket.copy(location.key("one"), location.key("two"), cache_control="no-cache", notes={"version": "1"})
        assert bucket.notes(location.key("two")) == {"version": "1"}
    # No upload in parts, of which somebody killed would leave the beginning.
    assert sent.count("PUT") == 1
    assert "POST" not in sent
    assert s3_server.client().get_object(Bucket=location.name, Key=location.key("two"))["Body"].read() == body


# How often, how long, how much at once


def test_nobody_who_never_answers_is_waited_for_long(s3_server: S3Server, location: Location, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as crowd:
        address = server.getsockname()
        # Linux answers no further one once so many wait to be accepted.
        for _ in range(3):
            waiting = crowd.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        patience = Patience(connect=0.3, read=30, attempts=1)
        bucket = Bucket(location, endpoint_url=f"http://127.0.0.1:{address[1]}", env=s3_server.env, patience=patience)
        began = time.monotonic()
        with pytest.raises(BucketError, match="nobody answers at"):
            publish((built(tmp_path, large=0),), bucket)
        assert time.monotonic() - began < 10


DEFAULTS = Bucket.__init__.__kwdefaults__ or {}


def test_while_a_server_does_not_answer_it_is_said(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Bucket.__init__, "__kwdefaults__", {**DEFAULTS, "patience": Patience(first=0.2, attempts=2)})
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    with proxy(s3_server.endpoint, before=lambda _request: Answer(200, seconds=60)) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for command in (["push", str(built(tmp_path, large=0).directory)], ["repository", "list"]):
            assert cli.main([*command, f"--bucket={location}"]) == 6
            said = capsys.readouterr().err.splitlines()
            first, second = (said.index(line) for line in said if line.startswith(("notice: ", "pakman: error: ")))
            assert said[first] == f"notice: {endpoint}: no answer within 0.2 seconds; asked again"
            assert "did not answer in time" in said[second]
            assert first < second
            assert s3_server.secret_access_key not in "".join(said)


def test_while_a_role_is_not_given_it_is_said(
    s3_server: S3Server, location: Location, role: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Bucket.__init__, "__kwdefaults__", {**DEFAULTS, "patience": Patience(first=0.2, attempts=2)})
    with proxy(s3_server.endpoint, before=lambda _request: Answer(200, seconds=60)) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        assert cli.main(["push", str(built(tmp_path, large=0).directory), f"--bucket={location}"]) == 6
    said = capsys.readouterr().err
    assert said.count(f"notice: {endpoint}: no answer within 0.2 seconds; asked again\n") == 1
    # Not of the bucket's server, which answers.
    assert f"{s3_server.endpoint}: the credentials cannot be had: Read timeout on endpoint URL: " in said
    assert f'"{endpoint}/"\n' in said


@pytest.mark.parametrize(
    ("answer", "refused"), [(s3_error(503, "SlowDown"), 1), (s3_error(429, "TooManyRequests"), 2)], ids=["503", "429"]
)
def test_those_that_were_refused_together_do_not_come_back_together(
    s3_server: S3Server, location: Location, tmp_path: Path, answer: Answer, refused: int
) -> None:
    came: dict[str, list[float]] = {}

    def refuse(request: Request) -> Answer | None:
        if request.method != "PUT" or "/notes" not in request.path:
            return None
        came.setdefault(request.path, []).append(time.monotonic())
        return answer if len(came[request.path]) <= refused else None

    with proxy(s3_server.endpoint, before=refuse) as endpoint:
        packages = built(tmp_path, small=8, large=0)
        publish((packages,), asked_for(location, s3_server.env, f"--endpoint-url={endpoint}"))
    assert is_whole(packages, s3_server, location)
    assert {len(times) for times in came.values()} == {refused + 1}
    for attempt in range(refused):
        waits = [times[attempt + 1] - times[attempt] for times in came.values()]
        assert max(waits) - min(waits) > 0.1


class Crowd:
    """Counts the PUTs of a proxy: all, and how many it has at the same time, each of which takes a while."""

    def __init__(self) -> None:
        self.most = self.all = self._now = 0
        self._lock = threading.Lock()

    def before(self, request: Request) -> None:
        if request.method == "PUT":
            with self._lock:
                self.all += 1
                self._now += 1
                self.most = max(self.most, self._now)
            time.sleep(0.02)

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
        flags = (f"--endpoint-url={endpoint}", f"--concurrency={concurrency}")
        publish((built(tmp_path, small=12),), asked_for(location, s3_server.env, *flags))
    # Of a large file, a quarter as many parts, two at least, beside the other files.
    assert crowd.most in most
    # The small packages, two parts of the large one, the key, packages.json and the index: each is sent once, since
    # the first signature is as good as boto3's.
    assert crowd.all == 12 + 2 + 3


def test_no_more_of_an_archive_travels_at_the_same_time_than_was_said(
    s3_server: S3Server, location: Location, tmp_path: Path
) -> None:
    publish((built(tmp_path, small=0, large=2 * LARGE),), asked_for(location, s3_server.env))
    crowd = Crowd()
    with proxy(s3_server.endpoint, before=crowd.before, after=crowd.after) as endpoint:
        bucket = asked_for(location, s3_server.env, f"--endpoint-url={endpoint}", "--concurrency=1")
        with contextlib.closing(bucket):
            archive.ship(bucket, archive.entries(bucket, location.key("deployments", "acme", "notes", COMMIT), ()))
    assert (crowd.most, crowd.all) == (1, 3)


# What one sees of it


@contextlib.contextmanager
def slow_line(endpoint: str, rate: int) -> Iterator[str]:
    """Yield the address of a relay that passes on so many bytes a second in either direction, on each connection."""
    ends: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(target: Callable[..., None], *arguments: object) -> None:
        threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        threads[-1].start()

    def pass_on(source: socket.socket, target: socket.socket, rate: int) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(rate // 20):
                target.sendall(block)
                time.sleep(len(block) / rate)

    def relay() -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = server.accept()
                theirs = socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])))
                ends.extend((ours, theirs))
                start(pass_on, ours, theirs, rate)
                start(pass_on, theirs, ours, rate)

    with socket.create_server(("127.0.0.1", 0)) as server:
        # What waits on the line is no progress.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        start(relay)
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            for end in (server, *ends):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for end in ends:
                end.close()


def quick(monkeypatch: pytest.MonkeyPatch) -> tuple[io.StringIO, Progress]:
    """Return what is said in a job, whose seconds are twenty times as fast as they are."""
    monkeypatch.setattr(upload, "_SECONDS", upload._SECONDS / 20)
    monkeypatch.setattr(progress, "_LOOK_AGAIN", progress._LOOK_AGAIN / 20)
    out = io.StringIO()
    return out, Progress(out, "github", lambda: time.monotonic() * 20)


def test_on_a_slow_line_there_is_a_line_every_ten_seconds(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file of one PUT takes 2 seconds here, 40 there.
    out, told = quick(monkeypatch)
    with slow_line(s3_server.endpoint, rate=2 << 20) as endpoint:
        bucket = asked_for(location, s3_server.env, f"--endpoint-url={endpoint}")
        packages = built(tmp_path, small=0, large=4 << 20)
        began = time.monotonic()
        with told.phase("Push"):
            publish((packages,), bucket, on_progress=told.bar)
        took = (time.monotonic() - began) * 20
    lines = out.getvalue().splitlines()[1:-2]
    assert 2 <= len(lines) <= took // 10
    # What comes behind the package may be what the last line is about.
    shares = [re.fullmatch(r"\S+: .* of 4\.0 MiB \((\d+)%\)", line) for line in lines]
    assert all(shares), lines
    numbers = [int(share[1]) for share in shares if share]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) >= 2
    assert is_whole(packages, s3_server, location)


def test_while_the_first_file_is_not_answered_there_is_a_line_every_ten_seconds(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = quick(monkeypatch)

    def wait(request: Request, body: bytes) -> bytes:
        time.sleep(1.3 if ".apk" in request.path and request.method == "PUT" else 0)
        return body

    with proxy(s3_server.endpoint, between=wait) as endpoint, told.phase("Push"):
        publish((built(tmp_path, small=1, large=0),), asked_for(location, s3_server.env, f"--endpoint-url={endpoint}"),
                on_progress=told.bar)  # fmt: skip
    assert len(re.findall(r"^x86_64/notes0-1.0.0-r0.apk: 0 B of .* \(0%\)$", out.getvalue(), re.MULTILINE)) >= 2


def test_what_a_release_fetches_and_archives_on_a_slow_line_is_told_of(
    s3_server: S3Server, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = signed_repository(tmp_path / "built", sizes={"notes": 3 << 20})
    publish((made,), asked_for(location, s3_server.env))
    out, told = quick(monkeypatch)
    with slow_line(s3_server.endpoint, rate=2 << 20) as endpoint:
        bucket = asked_for(location, s3_server.env, f"--endpoint-url={endpoint}")
        commit = pushed.Commit("acme", "notes", COMMIT)
        with told.phase("Fetch"):
            pushed.fetch(bucket, commit, ["x86_64"], tmp_path / "fetched", on_progress=told.bar)
        with told.phase("Archive"), contextlib.closing(bucket):
            archive.ship(bucket, archive.entries(bucket, commit.folder(bucket), ()), on_progress=told.bar)
    # Of each of the three, 30 seconds.
    fetched, shipped = (said.splitlines() for said in out.getvalue().split("::endgroup::")[:2])
    for lines, file in ((fetched, "x86_64/notes-1.0.0-r0.apk"), (shipped, "x86_64/notes-1.0.0-r0.apk"),
                        (shipped, "packages.zip")):  # fmt: skip
        assert len([line for line in lines if re.fullmatch(rf"{file}: .* of 3\.0 MiB \(\d+%\)", line)]) >= 2, lines


def test_a_terminal_sees_a_bar(s3_server: S3Server, location: Location, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["push", str(built(tmp_path).directory), f"--bucket={location}"]
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", **s3_server.env}
    with subprocess.Popen(
        [sys.executable, "-m", "pakman", *words], env=env, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        # What a terminal says whose other end has closed.
        with contextlib.suppress(OSError):
            while block := os.read(ours, 1 << 16):
                said += block
    os.close(ours)
    assert process.returncode == 0
    assert re.search(rb"\r\x1b\[K\S+ \[#* *\] [0-9.]+ [KM]iB of 9.0 MiB", said), said

"""The bucket as far as no server is needed: names, addresses, credentials, regions, digests."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import EndpointConnectionError, ProxyConnectionError, SSLError
from botocore.httpsession import URLLib3Session
from hypothesis import given
from hypothesis import strategies as st

from pakman.bucket import Bucket, Location, Patience, open_bucket, parse
from pakman.bucket.content import Content, etag, read, read_whole
from pakman.bucket.lane import Lane
from pakman.errors import BucketError, UsageError

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-tests"}


@pytest.mark.parametrize(
    ("text", "name", "prefix"),
    [
        ("s3://demo", "demo", ""),
        ("s3://demo/", "demo", ""),
        ("s3://demo/apk", "demo", "apk"),
        ("s3://demo/apk/v3.23/", "demo", "apk/v3.23"),
        ("s3://my.dotted-bucket.1/a~b_c.d-e", "my.dotted-bucket.1", "a~b_c.d-e"),
    ],
)
def test_a_bucket_is_named_by_a_url(text: str, name: str, prefix: str) -> None:
    assert parse(text) == Location(name, prefix)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("demo", "the bucket 'demo' does not begin with s3://", "write s3://demo"),
        ("/demo/apk", "does not begin with s3://", "write s3://demo/apk"),
        ("", "the bucket '' does not begin with s3://", "write s3://NAME"),
        ("https://s3.example.com/demo", "does not begin with s3://", "--endpoint-url"),
        ("S3://demo", "does not begin with s3://", "write s3://NAME"),
        ("s3://", "has no name", "write s3://NAME"),
        ("s3:///demo", "has no name", "write s3://NAME"),
        ("s3://Demo", "the bucket's name 'Demo' has upper-case letters", "is it 'demo'?"),
        ("s3://my_demo", "the bucket's name 'my_demo' has an underscore", "is it 'my-demo'?"),
        ("s3://ab", "the bucket's name 'ab' is not one", "3 to 63"),
        ("s3://a..b", "is not one", "3 to 63"),
        ("s3://-demo", "is not one", "a letter or digit at both ends"),
        ("s3://127.0.0.1", "is not one", "not an IP address"),
        ("s3://" + "a" * 64, "is not one", "3 to 63"),
        ("s3://my demo", "is not one", "3 to 63"),
        ("s3://demo:9000/x", "holds more than a name", "--endpoint-url"),
        ("s3://My_demo", "the bucket's name 'My_demo' has upper-case letters", "is it 'my-demo'?"),
        ("s3://_", "the bucket's name '_' has an underscore", "3 to 63 lower-case letters"),
        ("s3://demo//", "has an empty part between two slashes", "each slash once"),
        ("s3://demo//x", "has an empty part between two slashes", "each slash once"),
        ("s3://demo/x/../y", "has '..' in its prefix", "not a path to walk"),
        ("s3://demo/.", "has '.' in its prefix", "not a path to walk"),
        ("s3://demo/a+b", "has '+' in its prefix", "changed by some server"),
        ("s3://demo/a b", "has ' ' in its prefix", "letters, digits"),
        ("s3://demo/a%20b", "has '%' in its prefix", "letters, digits"),
        ("s3://demo/é", "has 'é' in its prefix", "letters, digits"),
        ("s3://demo/" + "a" * 513, "longer than 512 characters", "1024"),
    ],
)
def test_a_bucket_that_cannot_be_is_refused_with_a_sentence(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_a_bucket_or_a_sentence(text: str) -> None:
    for candidate in (text, f"s3://{text}", f"s3://demo/{text}"):
        with contextlib.suppress(UsageError):
            assert str(parse(candidate)) == candidate.removesuffix("/")


def test_a_key_has_only_what_travels_safely() -> None:
    location = Location("demo", "apk")
    assert location.key("keys", "acme~notes.rsa.pub") == "apk/keys/acme~notes.rsa.pub"
    for part in ("a+b", "a b", "..", ".", "", "a/b", "a\nb"):
        with pytest.raises(UsageError, match="cannot be part of an object's key"):
            location.key("keys", part)


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("s3.example.com", "https://s3.example.com/demo/k"),
        ("https://s3.example.com/", "https://s3.example.com/demo/k"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/demo/k"),
        ("https://s3.example.com/storage/v1/s3//", "https://s3.example.com/storage/v1/s3/demo/k"),
        ("https://s3.example.com/.a/..b/c~_-1/", "https://s3.example.com/.a/..b/c~_-1/demo/k"),
        ("http://[::1]:9000", "http://[::1]:9000/demo/k"),
    ],
)
def test_a_server_is_reached_by_path(given_url: str, url: str) -> None:
    assert Bucket(Location("demo"), endpoint_url=given_url, env=KEYS).url("k") == url


def test_a_server_can_be_asked_by_host() -> None:
    bucket = Bucket(Location("demo"), endpoint_url="https://s3.example.com:444", env=KEYS, addressing="virtual")
    assert bucket.url("k") == "https://demo.s3.example.com:444/k"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("http://[2001:db8::1:9000]", "2001:db8::1:9000", 80),
        ("https://[2001:db8::a]", "2001:db8::a", 443),
        ("https://[2001:db8::a]:9000", "2001:db8::a", 9000),
    ],
)
def test_no_port_is_found_in_an_ipv6_address(
    monkeypatch: pytest.MonkeyPatch, address: str, host: str, port: int
) -> None:
    asked: list[tuple[str, int]] = []

    def nobody(host: str, port: int, *_: object) -> None:
        asked.append((host, port))
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    lane = Lane(f"{address}/demo", "us-east-1", Credentials("an-id", "a-s3cr3t"), None, Patience(), print)
    assert lane.put("key", b"body", {}, sign_body=True, on_sent=print) is None
    assert asked == [(host, port)]


def test_readers_may_see_another_address() -> None:
    bucket = Bucket(Location("demo"), endpoint_url="s3.example.com", env=KEYS, public_url="https://apk.example.com/")
    assert bucket.url("a/k") == "https://apk.example.com/a/k"


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({"AWS_REGION": "eu-west-1"}, "https://demo.s3.eu-west-1.amazonaws.com/k"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "https://demo.s3.us-east-1.amazonaws.com/k"),
        ({"AWS_REGION": "cn-north-1"}, "https://demo.s3.cn-north-1.amazonaws.com.cn/k"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, "https://demo.s3.eu-west-1.amazonaws.com/k"),
        ({"AWS_REGION": "auto", "AWS_ENDPOINT_URL": "https://r2.example.com"}, "https://r2.example.com/demo/k"),
        ({"AWS_ENDPOINT_URL": "a.example", "AWS_ENDPOINT_URL_S3": "b.example"}, "https://b.example/demo/k"),
    ],
)
def test_the_environment_says_where(env: dict[str, str], url: str) -> None:
    assert open_bucket("s3://demo", endpoint_url=None, region=None, env={**KEYS, **env}).url("k") == url


def test_a_name_with_dots_is_no_host_for_a_certificate() -> None:
    bucket = Bucket(Location("my.demo"), region="eu-west-1", env=KEYS)
    assert bucket.url("k") == "https://s3.eu-west-1.amazonaws.com/my.demo/k"


@pytest.mark.parametrize(
    ("endpoint", "message", "hint"),
    [
        ("ftp://s3.example.com", "is not a server's address", "https://s3.example.com"),
        ("https://", "is not a server's address", "https://s3.example.com"),
        ("http://s3.example.com:port", "is not a server's address", "https://s3.example.com"),
        ("http://s3 example.com", "is not a server's address", "https://s3.example.com"),
        ("http://[::1", "is not a server's address", "https://s3.example.com"),
        ("https://me:hunter2@s3.example.com", "has more than a server's address in it", "AWS_ACCESS_KEY_ID"),
        ("https://me@s3.example.com/?hunter2", "has more than a server's address in it", "AWS_ACCESS_KEY_ID"),
        ("https://s3.example.com/?secret=hunter2", "goes on with '?'", "write https://s3.example.com/"),
        ("http://127.0.0.1:1?", "goes on with '?'", "write http://127.0.0.1:1"),
        ("s3.example.com#hunter2", "goes on with '#'", "write https://s3.example.com"),
        ("http://minio_server:9000", "the host 'minio_server', which no client of S3 asks", "or its IP address"),
        ("http://../..", "the host '..', which no client of S3 asks", "or its IP address"),
        (f"http://{'a' * 64}.com", "which no client of S3 asks", "or its IP address"),
        ("https://s3.example.com//a", "has the path '//a', which not every program asks for", "one slash between"),
        ("https://s3.example.com/a//b", "has the path '/a//b'", "one slash between"),
        ("https://s3.example.com/a/..", "has the path '/a/..'", "names of letters"),
        ("https://s3.example.com/./a", "has the path '/./a'", "names of letters"),
        ("https://s3.example.com/a%20b", "has the path '/a%20b'", "names of letters"),
        ("https://s3.example.com/a;b", "has the path '/a;b'", "names of letters"),
        ("https//me:hunter2@s3.example.com", "the endpoint '…@s3.example.com' has the path", "names of letters"),
        ("https:/me:hunter2/x@s3.example.com", "has the path '…@s3.example.com'", "names of letters"),
        ("https://demo.s3.example.com", "already has the bucket's name in it", "write https://s3.example.com"),
        ("127.0.0.1:9000/demo/", "already has the bucket's name at its end", "write https://127.0.0.1:9000: the"),
        ("http://s3.example.com/s3/demo", "already has the bucket's name at its end", "http://s3.example.com/s3: the"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_a_sentence(endpoint: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Bucket(Location("demo"), endpoint_url=endpoint, env=KEYS)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("who", ["flag", "profile"])
def test_a_bucket_s_name_goes_before_no_ip_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, who: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = http://{host}:9000\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    given_url = f"http://{host}:9000" if who == "flag" else None
    with pytest.raises(UsageError) as caught:
        Bucket(Location("demo"), endpoint_url=given_url, addressing="virtual", env=KEYS).url("k")
    assert f"'http://{host}:9000' is an IP address" in caught.value.message
    assert "say path" in caught.value.hint


@pytest.mark.parametrize("missing", sorted(KEYS))
def test_half_a_pair_of_keys_is_refused(missing: str) -> None:
    env = {name: value for name, value in KEYS.items() if name != missing}
    with pytest.raises(UsageError, match=f"but {missing} is not") as caught:
        Bucket(Location("demo"), env=env)
    assert not any(value in caught.value.message for value in KEYS.values())


def test_nothing_that_is_shown_of_a_bucket_has_a_secret_in_it() -> None:
    bucket = Bucket(Location("demo"), env={**KEYS, "AWS_SESSION_TOKEN": "t0ken"})
    shown = repr(bucket) + str(bucket) + repr(bucket._access) + repr(bucket.__dict__)
    assert not any(value in shown for value in (*KEYS.values(), "t0ken"))


def test_a_secret_may_have_been_pasted_with_its_newline() -> None:
    bucket = Bucket(Location("demo"), env={name: f"{value}\n" for name, value in KEYS.items()})
    assert bucket._access.credentials["aws_secret_access_key"] == KEYS["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize("name", [*sorted(KEYS), "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("between", ["\n", "\r\n", "\t", "\0"])
def test_a_secret_is_one_line(name: str, between: str) -> None:
    with pytest.raises(UsageError, match=f"{name} has a line break") as caught:
        Bucket(Location("demo"), env={**KEYS, name: f"hunter2{between}hunter2"})
    assert "hunter2" not in caught.value.message + caught.value.hint


Answering = Callable[[AWSPreparedRequest], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Answering], None]:
    """Answer what boto3 asks AWS; with a proxy in the environment there is no other way out than boto3's."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    class Raw(io.BytesIO):
        def stream(self, **_: object) -> list[bytes]:
            return [self.read()]

    def install(answer: Answering) -> None:
        def send(_self: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
            status, headers, body = answer(request)
            return AWSResponse(request.url, status, headers, Raw(body))

        monkeypatch.setattr(URLLib3Session, "send", send)

    return install


EMPTY_LIST = b"<ListBucketResult><Name>demo</Name><KeyCount>0</KeyCount></ListBucketResult>"


FIELDS = b"<ListBucketResult><Name>demo</Name>%s</ListBucketResult>"
GARBAGE: list[tuple[int, dict[str, str], bytes]] = [
    (200, {}, b""),
    (204, {}, b""),
    (200, {}, b"<a><b/></a>"),
    (200, {"etag": '"x"', "last-modified": "yesterday", "content-length": "1"}, b"x"),
    (200, {"etag": '"x"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT", "content-length": "many"}, b"x"),
    (200, {}, FIELDS % b"<Contents/><CommonPrefixes/>"),
    (200, {}, FIELDS % b"<Contents><Key>k</Key><Size>many</Size><LastModified>never</LastModified></Contents>"),
    (200, {}, FIELDS % b"<IsTruncated>true</IsTruncated><NextContinuationToken>k</NextContinuationToken>"),
    (400, {}, b"<Error><Code><a>b</a></Code></Error>"),
    (418, {}, b"<Error><Code>no&#10;::add-mask::x</Code><Message>no</Message></Error>"),
    (301, {"x-amz-bucket-region": "\x1b[2J"}, b""),
]
ASKED: list[Callable[[Bucket], object]] = [
    lambda bucket: bucket.list("x"),
    lambda bucket: bucket.folders("x"),
    lambda bucket: bucket.head("x"),
    lambda bucket: bucket.notes("x"),
    lambda bucket: bucket.sha256("x"),
    lambda bucket: bucket.read("x", 10),
    lambda bucket: bucket.swap("x", b"y", over=None, content_type="a/b", cache_control="no-cache"),
    lambda bucket: bucket.now(),
    lambda bucket: bucket.copy("x", "y", cache_control="no-cache", notes={}),
    lambda bucket: bucket.delete(["x"]),
    lambda bucket: bucket.refuse_without_conditions(),
]


@pytest.mark.parametrize(("status", "headers", "body"), GARBAGE)
def test_any_answer_is_a_value_or_a_sentence(
    answering: Callable[[Answering], None], status: int, headers: dict[str, str], body: bytes
) -> None:
    answering(lambda _request: (status, headers, body))
    bucket = Bucket(Location("demo"), region="eu-west-1", env=KEYS, patience=Patience(attempts=1))
    said = []
    for ask in ASKED:
        try:
            ask(bucket)
        except BucketError as error:
            said.append(error.message + error.hint)
    assert said
    assert all(text.isprintable() for text in said)


@pytest.mark.parametrize("limit", ["_MOST_PAGES", "_MOST_LISTED"])
@pytest.mark.parametrize("listing", ["list", "folders"])
def test_a_listing_that_never_ends_is_a_sentence(
    answering: Callable[[Answering], None], monkeypatch: pytest.MonkeyPatch, limit: str, listing: str
) -> None:
    monkeypatch.setattr(f"pakman.bucket.{limit}", 10)
    more = itertools.count()

    def answer(_request: AWSPreparedRequest) -> tuple[int, dict[str, str], bytes]:
        number = next(more)
        entry = (
            f"<Contents><Key>x{number}</Key><Size>1</Size><ETag>e</ETag><LastModified>2026-11-21T00:00:00Z"
            f"</LastModified></Contents><CommonPrefixes><Prefix>x{number}/</Prefix></CommonPrefixes>"
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{number}</NextContinuationToken>"
        )
        return 200, {}, FIELDS % entry.encode()

    answering(answer)
    bucket = Bucket(Location("demo"), region="eu-west-1", env=KEYS)
    with pytest.raises(BucketError, match="the listing does not end: it has ") as caught:
        getattr(bucket, listing)("x")
    assert "whether it is an S3 server" in caught.value.hint
    assert next(more) == (11 if limit == "_MOST_PAGES" else 6)


def test_uploads_are_not_listed_for_ever(
    answering: Callable[[Answering], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pakman.bucket.upload._MOST_PAGES", 10)
    more = itertools.count()

    def answer(_request: AWSPreparedRequest) -> tuple[int, dict[str, str], bytes]:
        body = (
            f"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{next(more)}</NextKeyMarker>"
            "</ListMultipartUploadsResult>"
        )
        return 200, {}, body.encode()

    answering(answer)
    Bucket(Location("demo"), region="eu-west-1", env=KEYS).abort_left_behind("x", ["x/y"])
    assert next(more) == 2 * 10


@pytest.mark.parametrize("status", [200, 301, 403])
def test_aws_is_asked_for_the_region_where_nobody_says_it(answering: Callable[[Answering], None], status: int) -> None:
    asked = []

    def answer(request: AWSPreparedRequest) -> tuple[int, dict[str, str], bytes]:
        asked.append(f"{request.method} {request.url.split('?')[0]}")
        if request.method == "HEAD" and "us-east-1" in request.url:
            return status, {"x-amz-bucket-region": "eu-west-3"}, b""
        return 200, {"x-amz-bucket-region": "eu-west-3"}, EMPTY_LIST

    answering(answer)
    bucket = Bucket(Location("demo"), region="auto", env=KEYS)
    assert bucket.list("x") == {}
    assert asked[0] == "HEAD https://demo.s3.us-east-1.amazonaws.com/"
    assert asked[-1] == "GET https://demo.s3.eu-west-3.amazonaws.com/"
    assert bucket.url("k") == "https://demo.s3.eu-west-3.amazonaws.com/k"


@pytest.mark.parametrize(("code", "status"), [("PermanentRedirect", 301), ("AuthorizationHeaderMalformed", 400)])
def test_a_bucket_in_another_region_than_was_said_is_not_written_to(
    answering: Callable[[Answering], None], code: str, status: int
) -> None:
    asked = []

    def answer(request: AWSPreparedRequest) -> tuple[int, dict[str, str], bytes]:
        asked.append(request.url.split("?")[0])
        if "eu-west-3" in request.url:
            return 200, {}, EMPTY_LIST
        body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        return status, {"x-amz-bucket-region": "eu-west-3"}, body

    answering(answer)
    # boto3 would find its way; but what we say where the packages are would be wrong.
    with pytest.raises(BucketError, match="the bucket is in another region") as caught:
        Bucket(Location("demo"), region="us-east-1", env=KEYS).list("x")
    assert caught.value.hint == "give the bucket's region: --region eu-west-3"
    assert asked == ["https://demo.s3.us-east-1.amazonaws.com/"]


def test_a_session_token_is_sent(answering: Callable[[Answering], None]) -> None:
    sent = []

    def answer(request: AWSPreparedRequest) -> tuple[int, dict[str, str], bytes]:
        sent.append(request.headers["X-Amz-Security-Token"])
        return 200, {}, EMPTY_LIST

    answering(answer)
    Bucket(Location("demo"), region="eu-west-1", env={**KEYS, "AWS_SESSION_TOKEN": "t0ken"}).list("x")
    assert [token if isinstance(token, str) else token.decode() for token in sent] == ["t0ken"]


def test_without_credentials_anywhere_one_sentence_says_so(answering: Callable[[Answering], None]) -> None:
    answering(lambda _request: (200, {}, EMPTY_LIST))
    with pytest.raises(BucketError, match="no credentials were found") as caught:
        Bucket(Location("demo"), region="eu-west-1", env={}).list("x")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_profile_that_is_not_there_is_a_sentence(
    answering: Callable[[Answering], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(lambda _request: (200, {}, EMPTY_LIST))
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    with pytest.raises(BucketError, match="nonesuch") as caught:
        Bucket(Location("demo"), region="eu-west-1", env={}).list("x")
    assert "AWS_PROFILE" in caught.value.hint


@pytest.fixture(params=["AWS_CA_BUNDLE", "profile"])
def trusting(
    request: pytest.FixtureRequest,
    answering: Callable[[Answering], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[str], Bucket]:
    """Return what makes a bucket whose server's certificate is of a CA in this file."""
    answering(lambda _request: (200, {}, EMPTY_LIST))
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    def trust(file: str) -> Bucket:
        env = {**KEYS, "AWS_REGION": "eu-west-1"}
        if request.param == "profile":
            config.write_text(f"[default]\nca_bundle = {file}\n")
        else:
            monkeypatch.setenv("AWS_CA_BUNDLE", file)
            env["AWS_CA_BUNDLE"] = file
        return Bucket(Location("demo"), env=env)

    return trust


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("text", "holds no certificate"),
    ],
)
def test_a_file_of_certificates_that_is_none_is_a_sentence(
    trusting: Callable[[str], Bucket], tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "text").write_text("root:x:0:0::/:/bin/sh\n")
    file = str(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        trusting(file).list("x")
    assert re.fullmatch(
        rf"(AWS_CA_BUNDLE|ca_bundle of the profile 'default') is {re.escape(repr(file))}, which {reason}",
        caught.value.message,
    )
    assert "in PEM" in caught.value.hint


@pytest.mark.parametrize("file", ["", " "])
def test_a_file_of_certificates_without_a_name_is_none(trusting: Callable[[str], Bucket], file: str) -> None:
    assert trusting(file).list("x") == {}


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide what this machine has for boto3, proxies included; what fails is tried once."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("scheme", "address"), [("http", "hunter2:hunter2"), ("https", "hunter2:hunter2"), ("http", "http://[hunter2")]
)
def test_a_proxy_s_address_that_is_none_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, scheme: str, address: str
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", address)
    bucket = Bucket(Location("demo"), endpoint_url=f"{scheme}://s3.example", env=KEYS, patience=Patience(attempts=1))
    with pytest.raises(BucketError, match="the proxy's address is not one") as caught:
        bucket.list("x")
    assert caught.value.hint.startswith(f"look at {scheme}_proxy, {scheme.upper()}_PROXY and NO_PROXY: ")
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.usefixtures("_alone")
def test_a_credential_of_another_source_is_one_line_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = k\naws_secret_access_key = s\naws_session_token = hunter2\n  more\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda _self, _context: 0)
    said: list[str] = []
    bucket = Bucket(Location("demo"), endpoint_url="http://127.0.0.1:1", env={}, on_wait=said.append)
    with pytest.raises(BucketError, match="a credential has a line break in it") as caught:
        bucket.list("x")
    assert said == []
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1)",
            "it speaks no TLS",
            "write http://s3.example:9/a",
        ),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate", "certificate is not trusted", "AWS_CA_BUNDLE"),
        ("[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1", "about: [SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1", "REQUESTS_CA_"),
        ("[Errno 2] No such file or directory", "about: [Errno 2] No such file", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_why_there_is_no_tls(monkeypatch: pytest.MonkeyPatch, words: str, message: str, hint: str) -> None:
    def send(_self: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        raise SSLError(endpoint_url=request.url, error=words)

    monkeypatch.setattr(URLLib3Session, "send", send)
    bucket = Bucket(Location("demo"), endpoint_url="s3.example:9/a/", env=KEYS, patience=Patience(attempts=1))
    with pytest.raises(BucketError) as caught:
        bucket.list("x")
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_a_proxy_does_not_answer_its_variable_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    def send(_self: URLLib3Session, _request: AWSPreparedRequest) -> AWSResponse:
        raise ProxyConnectionError(proxy_url="http://proxy.example")

    monkeypatch.setattr(URLLib3Session, "send", send)
    bucket = Bucket(Location("demo"), endpoint_url=f"{scheme}://s3.example", env=KEYS, patience=Patience(attempts=1))
    with pytest.raises(BucketError, match="the proxy does not answer") as caught:
        bucket.list("x")
    assert caught.value.hint == f"look at {scheme}_proxy, {scheme.upper()}_PROXY and NO_PROXY"


@pytest.mark.usefixtures("_alone")
def test_where_aws_does_not_answer_other_servers_are_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(_self: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        raise EndpointConnectionError(endpoint_url=request.url)

    monkeypatch.setattr(URLLib3Session, "send", send)
    with pytest.raises(BucketError, match="nobody answers at AWS") as caught:
        Bucket(Location("demo"), region="eu-west-1", env=KEYS, patience=Patience(attempts=1)).list("x")
    assert "--endpoint-url (AWS_ENDPOINT_URL)" in caught.value.hint


@pytest.mark.parametrize("region", ["not a region", "../..", "a.b", "-a"])
def test_a_region_that_is_not_a_word_is_a_sentence(region: str) -> None:
    with pytest.raises(UsageError, match=r"--region is .* no region"):
        Bucket(Location("demo"), region=region, env=KEYS)
    with pytest.raises(UsageError, match=r"AWS_REGION is .* no region"):
        Bucket(Location("demo"), env={**KEYS, "AWS_REGION": region})


@pytest.mark.parametrize(
    ("bucket", "prefix", "found"),
    [
        ("s3://demo", "apk", "s3://demo/apk"),
        ("s3://demo/a/", "/b/c/", "s3://demo/a/b/c"),
        ("s3://demo/a", "", "s3://demo/a"),
        ("s3://demo", "/", "s3://demo"),
    ],
)
def test_a_prefix_goes_behind_the_bucket_s_own(bucket: str, prefix: str, found: str) -> None:
    assert str(parse(bucket, prefix)) == found


@pytest.mark.parametrize("prefix", ["a//b", "../a", "a b", "a?b", "a" * 513])
def test_a_prefix_that_does_not_travel_safely(prefix: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        parse("s3://demo", prefix)


@pytest.mark.parametrize("address", ["https://cdn.example", "http://cdn.example:80/a/b/", "https://[::1]/"])
def test_readers_may_see_the_bucket_elsewhere(address: str) -> None:
    bucket = open_bucket("s3://demo/x", endpoint_url=None, region="eu-west-1", public_url=address, env={})
    assert bucket.url("x/keys/a") == f"{address.rstrip('/')}/x/keys/a"


@pytest.mark.parametrize(
    "address",
    [
        "cdn.example",
        "s3://demo",
        "https://",
        "https://a b",
        "https://u:the-secret@cdn.example",
        "https://a/?b",
        "https://a:b",
    ],
)
def test_an_address_that_no_machine_can_fetch_from(address: str) -> None:
    with pytest.raises(UsageError, match="--public-url is") as caught:
        open_bucket("s3://demo", endpoint_url=None, region=None, public_url=address, env={})
    assert "the-secret" not in caught.value.message


@given(size=st.integers(0, 50), part_size=st.integers(1, 20))
def test_a_file_is_the_sum_of_its_parts(size: int, part_size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    body = os.urandom(size)
    path = tmp_path_factory.mktemp("content") / "file"
    path.write_bytes(body)
    content = read(path, part_size=part_size)
    assert (content.size, content.sha256) == (size, hashlib.sha256(body).hexdigest())
    parts = [content.part(number) for number in range(content.parts)]
    assert b"".join(parts) == body
    assert all(len(part) == part_size for part in parts[:-1])
    assert read_whole(path).part(0) == body


def test_an_etag_is_s3s(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello world")
    assert etag(read(tmp_path / "file").md5s()) == "5eb63bbbe01eeed093cb22bb8f5acdc3"
    in_parts = read(tmp_path / "file", part_size=5).md5s()
    joined = b"".join(hashlib.md5(part).digest() for part in (b"hello", b" worl", b"d"))
    assert etag(in_parts) == f"{hashlib.md5(joined).hexdigest()}-3"


def test_a_file_never_has_more_parts_than_s3_takes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(25_001))
    content = read(path, part_size=1)
    assert content.parts == 8334
    assert content.part_size == 3


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 3)


def swap(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [grow, shrink, swap, replace])
def test_a_file_that_changes_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    os.utime(path, ns=(0, 0))
    content: Content = read(path)
    change(path)
    with pytest.raises(BucketError, match="changed while it was being pushed"):
        content.part(0)


def test_a_file_that_goes_away_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    content = read(path)
    path.unlink()
    with pytest.raises(BucketError, match="can no longer be read: No such file"):
        content.part(0)

"""The deployment service's client against a service that keeps to its contract, and one that does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pakman.api import Patience
from pakman.errors import DeploymentError, UsageError
from pakman.instellar import Deployment, Instellar, RefusedError, Tokens
from tests.instellar_service import AUTH_TOKEN, HTML, PACKAGE_TOKEN, Asked, Fault, Service, running_service

SHA = "0123456789abcdef0123456789abcdef01234567"
STORAGE = {
    "host": "s3.example.com", "port": 443, "scheme": "https://", "region": "eu-west-1", "bucket": "packages",
    "credential": {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "s3cr3t-of-the-service"},
}  # fmt: skip
QUICK = Patience(connect=1, silence=0.4, whole=0.8, pause=0.01, longest_pause=0.3, attempts=3)


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service(STORAGE) as running:
        yield running


def client(service: Service, *, auth: str = AUTH_TOKEN, package: str = PACKAGE_TOKEN, **more: Any) -> Instellar:
    return Instellar(service.endpoint, Tokens(package, auth), clock=time.monotonic, patience=QUICK, **more)


def on(path: str, *faults: Fault | None) -> Callable[[Asked], Fault | None]:
    """Let the first requests whose path has a part in it go wrong, each in its way."""
    left = list(faults)
    return lambda asked: left.pop(0) if left and path in asked.path else None


def create(found: Instellar, archive: str = "archives/x/packages.zip") -> tuple[Deployment, str]:
    return found.create_deployment(ref="refs/heads/main", sha=SHA, archive_path=archive, stack="alpine/3.23")


def test_six_calls_as_the_contract_has_them(service: Service) -> None:
    secrets: list[str] = []
    found = client(service, on_secret=secrets.append)
    assert found.deployment(SHA) is None
    storage = found.storage()
    assert (storage.bucket, storage.endpoint_url, storage.region) == ("packages", "https://s3.example.com", "eu-west-1")
    deployment = Deployment("1", "archives/x/packages.zip")
    assert create(found) == (deployment, "created")
    assert create(found, "archives/y/packages.zip") == (deployment, "exists")
    assert found.create_configuration(deployment.id, {"kits": [{"name": "web"}], "page": {"title": "Ü"}}) == "created"
    assert found.create_configuration(deployment.id, {"kits": [{"name": "web"}]}) == "exists"
    assert found.deployment(SHA) == deployment
    assert service.lines == [
        "POST /publish/automation/callback",
        f"GET /publish/deployments/{SHA}",
        "GET /publish/storage",
        *["POST /publish/deployments"] * 2,
        *["POST /publish/deployments/1/configurations"] * 2,
        f"GET /publish/deployments/{SHA}",
    ]
    sent = service.asked[3]
    assert sent.content["deployment"] == {
        "ref": "refs/heads/main", "hash": SHA, "archive_path": "archives/x/packages.zip", "stack": "alpine/3.23",
    }  # fmt: skip
    assert sent.headers["authorization"] == f"Bearer {service.tokens[0]}"
    assert secrets == [service.tokens[0], "s3cr3t-of-the-service"]
    said = repr(found) + repr(storage) + repr(Tokens(PACKAGE_TOKEN, AUTH_TOKEN))
    assert not any(secret in said for secret in (*secrets, PACKAGE_TOKEN, AUTH_TOKEN, "AKIDEXAMPLE"))


ONCE = [
    Fault(429, headers={"retry-after": "0"}), Fault(500), Fault(503, b"<html>"), Fault(seconds=0.6), Fault(reset=True),
    Fault(body=b'{"data": ' + b" " * 200, drip=0.05), Fault(body=b'{"data": {}', promised=100),
]  # fmt: skip
IDS = ["429", "500", "503", "hangs", "reset", "trickle", "truncated"]


@pytest.mark.parametrize("fault", ONCE, ids=IDS)
@pytest.mark.parametrize("path", ["/callback", f"/{SHA}", "/storage"])
def test_what_goes_wrong_once_is_asked_again(service: Service, path: str, fault: Fault) -> None:
    service.before = on(path, fault)
    waits: list[str] = []
    found = client(service, on_wait=waits.append)
    assert found.deployment(SHA) is None
    assert found.storage().bucket == "packages"
    assert len(waits) == 1
    assert "asked again in" in waits[0]
    assert len(service.asked) == 4


@pytest.mark.parametrize("fault", ONCE, ids=IDS)
def test_a_deployment_whose_answer_is_lost_is_made_once(service: Service, fault: Fault) -> None:
    lost = replace(fault, after=True)
    service.before = on("/publish/deployments", None, lost, None, lost)
    found = client(service)
    assert found.deployment(SHA) is None
    deployment, outcome = create(found)
    assert outcome == "exists"
    found.create_configuration(deployment.id, {"kits": []})
    assert len(service.known) == len(service.configurations) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(429, headers={"retry-after": "999999999"}), "failed, again and again (429)"),
        (Fault(502), "failed, again and again (502)"),
        (Fault(seconds=0.6), "cannot be reached: no answer within 0.4 seconds"),
        (Fault(reset=True), "cannot be reached: the connection broke"),
        (Fault(body=b" " * 200, drip=0.05), "does not come to an end within 0.8 seconds"),
        (Fault(promised=9), "cannot be reached: the connection broke"),
    ],
)
def test_what_goes_wrong_every_time_is_one_sentence(service: Service, fault: Fault, sentence: str) -> None:
    service.before = lambda _asked: fault
    with pytest.raises(DeploymentError) as caught:
        client(service).deployment(SHA)
    assert sentence in caught.value.message
    assert caught.value.hint.startswith("run it again later")
    assert len(service.asked) == 3


def test_nobody_there_is_one_sentence() -> None:
    with running_service() as gone:
        pass
    with pytest.raises(DeploymentError, match="cannot be reached: the connection broke, or there is none"):
        client(gone).deployment(SHA)


def test_a_service_without_tls_is_one_sentence(service: Service) -> None:
    address = service.endpoint.replace("http://", "https://")
    with pytest.raises(DeploymentError, match="has no certificate that this machine trusts") as caught:
        Instellar(address, Tokens(PACKAGE_TOKEN, AUTH_TOKEN), clock=time.monotonic, patience=QUICK).deployment(SHA)
    assert caught.value.hint.startswith("does it speak https?")


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "1"},
        # By the server's clock, whatever ours says.
        {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "Wed, 21 Oct 2015 07:27:59 GMT"},
    ],
    ids=["seconds", "date"],
)
def test_retry_after_is_heeded(service: Service, headers: dict[str, str]) -> None:
    service.before = on("/storage", Fault(429, headers=headers))
    found = Instellar(
        service.endpoint, Tokens(PACKAGE_TOKEN, AUTH_TOKEN), clock=time.monotonic, patience=Patience(pause=0.01)
    )
    began = time.monotonic()
    found.storage()
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": said, "date": date} for said in ("-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT") for date in
     ("", "x", "Wed, 99 Foo 99999 99:99:99 +9999", "Fri, 31 Dec 9999 23:59:59 -2359")],
)  # fmt: skip
def test_retry_after_that_says_nothing_is_none(service: Service, headers: dict[str, str]) -> None:
    service.before = on("/storage", Fault(503, headers=headers))
    assert client(service).storage().bucket == "packages"


ENDLESS = {
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "header": (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: x\r\n"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@contextmanager
def talking(begin: bytes, again: bytes) -> Iterator[str]:
    """Yield the address of somebody who begins to answer, and never ends."""
    ended = threading.Event()

    def talk() -> None:
        with server, server.accept()[0] as connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(begin)
            while not ended.wait(0.01):
                connection.sendall(again)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        ended.set()
        thread.join()


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
def test_nobody_waits_for_an_answer_that_never_ends(begin: bytes, again: bytes) -> None:
    patience = Patience(silence=5, whole=0.3, attempts=1)
    with talking(begin, again) as address:
        began = time.monotonic()
        found = Instellar(address, Tokens(PACKAGE_TOKEN, AUTH_TOKEN), clock=time.monotonic, patience=patience)
        with pytest.raises(DeploymentError, match="the answer does not come to an end within"):
            found.storage()
        assert time.monotonic() - began < 3


def test_nobody_waits_for_a_connection_that_does_not_come() -> None:
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in (first, second):  # nobody takes them: there is no room for a third
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        patience = Patience(connect=0.2, attempts=1)
        found = Instellar(address, Tokens(PACKAGE_TOKEN, AUTH_TOKEN), clock=time.monotonic, patience=patience)
        with pytest.raises(DeploymentError, match="cannot be reached: no connection within"):
            found.storage()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_token_follows_a_redirect(service: Service, status: int) -> None:
    with running_service(STORAGE) as elsewhere:
        address = f"{elsewhere.endpoint}/publish/storage?x=\x1b"
        for path in ("/callback", "/storage"):
            service.before = on(path, Fault(status, headers={"location": address}))
            with pytest.raises(DeploymentError) as caught:
                client(service).storage()
            assert "sends us elsewhere (127.0.0.1), and no token is taken there" in caught.value.message
            assert "--instellar-endpoint" in caught.value.hint
        assert elsewhere.asked == []


@pytest.mark.parametrize("place", ["http://[::", "//", "\xff", "http://x:y", "", "javascript:", "http://a b/"])
def test_a_redirect_to_no_address_is_one_sentence(service: Service, place: str) -> None:
    service.before = on("/callback", Fault(302, b" " * (2 << 20), {"location": place}))
    with pytest.raises(DeploymentError, match="answers with more than 1 MiB"):
        client(service).storage()
    service.before = on("/callback", Fault(302, headers={"location": place}))
    with pytest.raises(DeploymentError, match=r"sends us elsewhere \(.*\), and no token is taken there"):
        client(service).storage()


def test_a_password_of_another_program_is_not_sent(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    client(service).storage()
    assert "authorization" not in service.asked[0].headers
    assert service.asked[1].headers["authorization"].startswith("Bearer ")


def test_a_token_that_has_become_too_old_is_made_anew(service: Service) -> None:
    found = client(service)
    found.storage()
    service.tokens[0] = "gone"
    assert create(found)[1] == "created"
    assert service.lines[-3:] == [
        "POST /publish/deployments",
        "POST /publish/automation/callback",
        "POST /publish/deployments",
    ]


@pytest.mark.parametrize(
    ("tokens", "path", "fault", "sentence", "hint"),
    [
        ({"auth": "another"}, "", None, "does not know the auth token", "INSTELLAR_AUTH_TOKEN"),
        ({}, "/callback", Fault(401), "does not know the auth token", "INSTELLAR_AUTH_TOKEN"),
        ({"package": "another"}, "", None, "has no storage for this package", "INSTELLAR_PACKAGE_TOKEN"),
        ({}, "/storage", Fault(401), "refuses the tokens (401)", "INSTELLAR_PACKAGE_TOKEN"),
        ({}, "/storage", Fault(403), "refuses the tokens (403)", "INSTELLAR_PACKAGE_TOKEN"),
        ({}, "/storage", Fault(404), "has no storage for this package", "--bucket"),
        ({}, "/storage", Fault(418), "answers with 418, which is none", "--instellar-endpoint"),
        ({}, "/storage", HTML, "answers with something else", "--instellar-endpoint"),
        ({}, "/storage", Fault(body=b"[" * 100_000), "answers with something else", "--instellar-endpoint"),
        ({}, "/storage", Fault(body=b" " * (2 << 20)), "answers with more than 1 MiB", "--instellar-endpoint"),
        ({}, "/storage", Fault(body=b'{"data": {"attributes": []}}'), "something else", "--instellar-endpoint"),
        ({}, "/storage", Fault(body=b'{"data": {"attributes": {}}}'), "a storage that is none", "--instellar-endpoint"),
        ({}, "/callback", Fault(201, b'{"data": {"token": "a\\nb"}}'), "answers with no token", "--instellar-endpoint"),
        ({}, "/callback", Fault(200), "answers with 200, which is none", "--instellar-endpoint"),
        ({}, "/callback", Fault(404, HTML.body), "answers, but it is not the deployment", "--instellar-endpoint"),
        ({}, "/callback", Fault(404, b'"no"'), "answers, but it is not the deployment", "--instellar-endpoint"),
        ({}, "/callback", Fault(404), "does not know the auth token", "INSTELLAR_AUTH_TOKEN"),
        ({}, "/callback", Fault(501), "answers with 501, which is none", "--instellar-endpoint"),
        ({}, "/storage", Fault(505), "answers with 505, which is none", "--instellar-endpoint"),
    ],
)
def test_a_refusal_says_what_to_do(
    service: Service, tokens: dict[str, str], path: str, fault: Fault | None, sentence: str, hint: str
) -> None:
    service.before = lambda asked: fault if fault is not None and path in asked.path else None
    with pytest.raises(DeploymentError) as caught:
        client(service, **tokens).storage()
    assert sentence in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 7
    assert len(set(service.lines)) == len(service.lines)  # nothing was asked again
    assert not any(token in caught.value.message for token in (PACKAGE_TOKEN, AUTH_TOKEN, *service.tokens))


@pytest.mark.parametrize("archive", ["", "a b", "a\n::x::", "##[add-path]/tmp", None, 7, "x" * 1025])
def test_an_archive_s_key_is_one(service: Service, archive: Any) -> None:
    service.known["refs/heads/main", SHA] = {"id": 1, "archive_path": archive}
    with pytest.raises(DeploymentError, match="answers with a deployment that is none"):
        client(service).deployment(SHA)


@pytest.mark.parametrize("number", ["../storage", "", True, None, 1.5, [], "a/b", "x" * 65])
def test_a_deployment_s_number_is_one(service: Service, number: Any) -> None:
    service.known["refs/heads/main", SHA] = {"id": number, "archive_path": "archives/x/packages.zip"}
    with pytest.raises(DeploymentError, match="answers with a deployment that is none"):
        client(service).deployment(SHA)


def test_a_configuration_that_is_refused_names_its_values(service: Service) -> None:
    service.refuses = {"errors": {"kits": [{}, {"ports": [{}, {"target": ["is invalid"]}]}]}}
    with pytest.raises(RefusedError) as caught:
        client(service).create_configuration("1", {"kits": []})
    assert "refuses values: kits[1].ports[1].target is invalid" in caught.value.message
    assert [each.path for each in caught.value.refusals] == [("kits", 1, "ports", 1, "target")]


def test_a_number_that_json_lacks_is_not_sent(service: Service) -> None:
    with pytest.raises(DeploymentError, match="hold a number that JSON does not have"):
        client(service).create_configuration("1", {"kits": [{"x": float("inf")}]})
    assert service.lines == ["POST /publish/automation/callback"]


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x",
        "example.com",
        "https://a b",
        "https://me:pass@x",
        "https://x/?token=1",
        "https://x/?",
        "https://x/#",
        "https://",
        "https://x:y",
    ],
)
def test_an_address_is_one(text: str) -> None:
    with pytest.raises(UsageError, match="--instellar-endpoint is") as caught:
        Instellar(text, Tokens("a", "b"), clock=time.monotonic)
    assert "pass" not in caught.value.message
    assert "token" not in caught.value.message


def test_tokens_travel_in_the_clear_to_this_machine_alone() -> None:
    with pytest.raises(UsageError, match="would read the tokens") as caught:
        Instellar("http://deploy.example.com", Tokens("a", "b"), clock=time.monotonic)
    assert caught.value.hint == "write it as https://deploy.example.com"

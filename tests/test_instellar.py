"""Whatever the deployment service answers: a value, or one sentence."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman import instellar
from pakman.api import Answer, Patience
from pakman.errors import DeploymentError, UsageError
from pakman.instellar import Instellar, Tokens

KEYS = (
    "data", "attributes", "token", "id", "archive_path", "host", "port", "scheme", "region", "bucket", "credential",
    "access_key_id", "secret_access_key", "errors", "detail", "message", "source", "pointer", "kits",
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["https://", "443", "x"])
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=6),
    max_leaves=12,
)
WRAPPED = JSON.map(lambda inner: {"data": {"attributes": inner, "token": inner}, "errors": inner})
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 422, 429, 500, 503])


def service(*answers: Answer) -> Instellar:
    """Return a client whose requests are answered with these, in a circle."""
    made = Instellar("https://deploy.example.com", Tokens("p", "a"), clock=lambda: 0.0)
    left = iter(answers * 9)
    made._api.ask = lambda *_: next(left)  # type: ignore[method-assign]
    return made


@given(STATUSES, JSON | WRAPPED, STATUSES, JSON | WRAPPED)
def test_any_answer_is_a_value_or_a_sentence(status: int, content: Any, then: int, more: Any) -> None:
    calls: tuple[Callable[[Instellar], object], ...] = (
        lambda found: found.deployment("0" * 40),
        lambda found: found.storage(),
        lambda found: found.create_deployment(ref="r", sha="0" * 40, archive_path="x", stack=None),
        lambda found: found.create_configuration("1", {}),
    )
    token = Answer(201, {"data": {"token": "t"}})
    for answers in ((Answer(status, content), Answer(then, more)), (token, Answer(status, content))):
        for call in calls:
            found = outcome(call, service(*answers))
            if isinstance(found, DeploymentError):
                assert found.message.startswith("https://deploy.example.com ")
                assert found.message.isprintable()
                assert len(found.message) < 2000
                assert found.hint


def outcome(call: Callable[[Instellar], object], found: Instellar) -> object:
    """Return what a call comes to: any other exception than this one is a crash."""
    try:
        return call(found)
    except DeploymentError as error:
        return error


@pytest.mark.parametrize(
    ("package", "auth", "sentence"),
    [
        ("token", "", "INSTELLAR_PACKAGE_TOKEN is set, but INSTELLAR_AUTH_TOKEN is not"),
        (" ", "token", "INSTELLAR_AUTH_TOKEN is set, but INSTELLAR_PACKAGE_TOKEN is not"),
        ("to\r\nken: x", "token", "INSTELLAR_PACKAGE_TOKEN has something in it that no token has"),
        ("token", "tökén", "INSTELLAR_AUTH_TOKEN has something in it that no token has"),
    ],
)
def test_tokens_come_in_pairs(package: str, auth: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        instellar.tokens(package, auth)
    assert caught.value.message == sentence
    assert caught.value.hint


def test_a_token_may_have_been_pasted_with_its_newline() -> None:
    assert instellar.tokens("package\n", " auth ") == Tokens("package", "auth")
    assert instellar.tokens("", " ") is None


@pytest.mark.parametrize(
    ("storage", "endpoint"),
    [
        ({}, "https://s3.example.com"),
        ({"port": "443", "scheme": "https"}, "https://s3.example.com"),
        ({"port": 9000, "scheme": "http://"}, "http://s3.example.com:9000"),
    ],
)
def test_a_storage_s_address_is_put_together(storage: dict[str, Any], endpoint: str) -> None:
    usual = {"host": "s3.example.com", "port": 443, "scheme": "https://", "region": "auto", "bucket": "packages"}
    usual["credential"] = {"access_key_id": "a", "secret_access_key": "s"}
    token = Answer(201, {"data": {"token": "t"}})
    found = service(token, Answer(200, {"data": {"attributes": usual | storage}})).storage()
    assert (found.endpoint_url, found.bucket, found.region) == (endpoint, "packages", "auto")


@pytest.mark.parametrize(
    "wrong",
    [{"scheme": "file://"}, {"host": "a b"}, {"bucket": "No_Bucket"}, {"port": 0}, {"port": True}, {"credential": "x"},
     {"host": "user:pass@s3.example.com"}, {"region": None}, {"host": "s3.example.com/x?y"},
     {"region": "../.."}, {"host": "../.."}, {"host": "s3_example.com"}],
)  # fmt: skip
def test_a_storage_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    usual = {"host": "s3.example.com", "port": 443, "scheme": "https://", "region": "auto", "bucket": "packages"}
    usual["credential"] = {"access_key_id": "a", "secret_access_key": "s"}
    token = Answer(201, {"data": {"token": "t"}})
    with pytest.raises(DeploymentError, match="answers with a storage that is none"):
        service(token, Answer(200, {"data": {"attributes": usual | wrong}})).storage()


@pytest.mark.parametrize(
    ("number", "tries", "sentence", "hint"),
    [
        (socket.EAI_NONAME, 1, "there is no host deploy.example.com", "look at INSTELLAR_ENDPOINT: is it the"),
        (socket.EAI_AGAIN, 3, "the name deploy.example.com cannot be looked up", "run it again later"),
    ],
)
def test_a_host_s_name_is_not_known(
    number: int, tries: int, sentence: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def look_up(*_: object, **__: object) -> None:  # what a name server says is not ours to arrange
        asked.append(1)
        raise socket.gaierror(number, "says the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    patience = Patience(pause=0.001, attempts=3)
    made = Instellar(
        "https://deploy.example.com", Tokens("p", "a"), source="INSTELLAR_ENDPOINT", clock=lambda: 0.0,
        patience=patience,
    )  # fmt: skip
    with pytest.raises(DeploymentError) as caught:
        made.storage()
    assert caught.value.message == f"https://deploy.example.com cannot be reached: {sentence}"
    assert caught.value.hint.startswith(hint)
    assert len(asked) == tries

"""An address to tell of releases, and what it is told with, without a server."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from pakman import notify
from pakman.errors import UsageError
from pakman.notify import Hook
from tests.test_documents import README

SECRET = "a-long-random-text-0123456789"


def hook(url: str, secret: str = SECRET) -> Hook:
    return Hook(url, secret, clock=time.monotonic)


def test_a_signature_is_what_others_compute() -> None:
    # RFC 4231, test case 2.
    assert notify.signature(b"what do ya want for nothing?", "Jefe") == (
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_secret_that_is_no_text_is_its_bytes() -> None:
    assert notify.signature(b"", b"\xff".decode(errors="surrogateescape")).startswith("sha256=")


def test_a_delivery_has_the_same_number_again() -> None:
    assert notify.delivery(b"{}") == notify.delivery(b"{}") != notify.delivery(b"[]")


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com/hook", "ftp://example.com", "https://", "https://example.com:99999", "https://exa mple.com",
        "https://example.com/#top", "https://example.com/\nX: y", "//me:the-password@example.com",
        "https://me:the-password@", "https://ex\u00e4mple.com",
    ],
)  # fmt: skip
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(UsageError, match="--notify-url is not an address") as caught:
        hook(url)
    assert "password" not in caught.value.message


def test_a_release_travels_in_the_clear_to_this_machine_alone() -> None:
    with pytest.raises(UsageError, match="would read the release") as caught:
        hook("http://me:the-password@hooks.example.com/the-path")
    assert caught.value.hint == "write it as https://hooks.example.com"
    assert "the-" not in caught.value.message
    for server in ("http://localhost:8080", "http://127.0.0.1", "http://[::1]:80", "https://example.com"):
        assert hook(f"{server}/hook").server == server


@pytest.mark.parametrize("secret", ["", " \n"])
def test_an_address_without_a_secret_is_refused(secret: str) -> None:
    with pytest.raises(UsageError, match="no secret to sign with") as caught:
        hook("https://example.com/hook", secret)
    assert "set PAKMAN_NOTIFY_SECRET" in caught.value.hint


def test_neither_the_secret_nor_what_is_in_the_address_is_shown() -> None:
    shown = repr(hook("https://me:the-password@example.com/T000/the-path?key=the-key"))
    assert shown == "Hook(https://example.com)"


def test_the_readme_s_receiver_knows_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    receiver: dict[str, Any] = {}
    exec(compile(code, "README", "exec"), receiver)
    monkeypatch.setenv(notify.SECRET, SECRET)
    headers = {"X-Pakman-Signature-256": notify.signature(b"{}", SECRET)}
    assert receiver["is_ours"](b"{}", headers)
    assert not receiver["is_ours"](b"{ }", headers)
    assert not receiver["is_ours"](b"{}", {"X-Pakman-Signature-256": "sha256="})

"""Telling of a release: a receiver that sees what arrives, and one that fails in every way."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pakman import notify
from pakman.errors import DeploymentError
from pakman.notify import Hook
from tests.instellar_service import Fault, Receiver, running
from tests.integration.test_instellar import QUICK
from tests.test_documents import README

SECRET = "a-long-random-text-0123456789"
BODY = b'{\n  "name": "shop\xc3\xbc"\n}\n'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running(Receiver({})) as made:
        yield made


def hook(receiver: Receiver, path: str = "/hook", **more: Any) -> Hook:
    return Hook(f"{receiver.endpoint}{path}", SECRET, clock=time.monotonic, patience=QUICK, **more)


def test_a_receiver_gets_the_very_bytes_and_can_check_them(receiver: Receiver) -> None:
    hook(receiver, "/hooks/T0?key=a%20b").tell(BODY)
    (asked,) = receiver.asked
    assert (str(asked), asked.body) == ("POST /hooks/T0?key=a%20b", BODY)
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["x-pakman-signature-256"] == notify.signature(BODY, SECRET)
    assert asked.headers["x-pakman-delivery"] == notify.delivery(BODY)
    assert "authorization" not in asked.headers


def test_a_password_in_the_address_is_basic_authentication(receiver: Receiver) -> None:
    address = receiver.endpoint.replace("//", "//me:p%40ss@")
    Hook(address, SECRET, clock=time.monotonic).tell(BODY)
    (asked,) = receiver.asked
    assert asked.path == "/"
    assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"


# The ways in which an answer goes wrong are the deployment service's: the same client asks.
@pytest.mark.parametrize("fault", [Fault(503), Fault(reset=True), Fault(500, after=True)], ids=["503", "reset", "lost"])
def test_what_goes_wrong_once_is_sent_again_under_the_same_number(receiver: Receiver, fault: Fault) -> None:
    left, waits = [fault], list[str]()
    receiver.before = lambda _asked: left.pop() if left else None
    hook(receiver, "/the-path", on_wait=waits.append).tell(BODY)
    first, second = receiver.asked
    assert first.headers["x-pakman-delivery"] == second.headers["x-pakman-delivery"]
    assert first.body == second.body == BODY
    assert len(waits) == 1
    assert waits[0].startswith(f"{receiver.endpoint}: ")
    assert "the-path" not in waits[0]


def test_retry_after_is_heeded(receiver: Receiver) -> None:
    left = [Fault(503, headers={"retry-after": "1"})]
    receiver.before = lambda _asked: left.pop() if left else None
    began = time.monotonic()
    Hook(receiver.endpoint, SECRET, clock=time.monotonic, patience=replace(QUICK, longest_pause=5)).tell(BODY)
    assert 1 <= time.monotonic() - began < 4


def refused(receiver: Receiver, fault: Fault) -> DeploymentError:
    receiver.before = lambda _asked: fault
    with pytest.raises(DeploymentError) as caught:
        hook(receiver, "/the-path?key=the-key").tell(BODY)
    assert caught.value.message.startswith(f"{receiver.endpoint} ")
    assert not any(each in f"{caught.value.message} {caught.value.hint}" for each in (SECRET, "the-path", "the-key"))
    assert caught.value.exit_code == 7
    return caught.value


@pytest.mark.parametrize(
    ("fault", "sentence", "hint"),
    [
        (Fault(400, b""), "(400)", "its log may say more"),
        (Fault(401, b"\n \x1b[1mwho are you?\r\nsecond"), "(401): [1mwho are you?", "PAKMAN_NOTIFY_SECRET"),
        (Fault(403, SECRET.encode()), "(403)", "in a workflow: notify-secret"),
        (Fault(404, b"\xff" * 9000), f"(404): {chr(0xFFFD) * 200}", "look at --notify-url"),
        (Fault(410, b"gone"), "(410): gone", "look at --notify-url"),
    ],
)
def test_a_refusal_is_one_sentence_and_final(receiver: Receiver, fault: Fault, sentence: str, hint: str) -> None:
    error = refused(receiver, fault)
    assert error.message == f"{receiver.endpoint} does not take the release {sentence}"
    assert error.message.isprintable()
    assert "second" not in error.message
    assert hint in error.hint
    assert error.hint.endswith("run `pakman release` again to tell of it once more")
    assert len(receiver.asked) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(429, headers={"retry-after": "999999999"}), "failed, again and again (429)"),
        (Fault(500), "failed, again and again (500)"),
        (Fault(seconds=0.6), "cannot be reached: no answer within 0.4 seconds"),
    ],
)
def test_what_goes_wrong_every_time_is_one_sentence(receiver: Receiver, fault: Fault, sentence: str) -> None:
    error = refused(receiver, fault)
    assert sentence in error.message
    assert error.hint == "the release is complete: run `pakman release` again to tell of it once more"
    assert len(receiver.asked) == 3


def test_an_answer_of_another_kind_is_one_sentence(receiver: Receiver) -> None:
    error = refused(receiver, Fault(501))
    assert error.message == f"{receiver.endpoint} answers with 501, which is none of its answers"
    assert error.hint == "look at --notify-url: is it the receiver's address?"


@pytest.mark.parametrize("status", [302, 307])
def test_no_signature_follows_a_redirect(receiver: Receiver, status: int) -> None:
    with running(Receiver({})) as elsewhere:
        error = refused(receiver, Fault(status, headers={"location": f"{elsewhere.endpoint}/x"}))
        assert elsewhere.asked == []
    assert "sends us elsewhere (127.0.0.1), and no signature is taken there" in error.message
    assert error.hint == "give the receiver's own address as --notify-url"
    assert len(receiver.asked) == 1


def test_a_password_of_another_program_is_not_sent(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    hook(receiver).tell(BODY)
    assert "authorization" not in receiver.asked[0].headers


def test_nobody_there_is_one_sentence() -> None:
    with running(Receiver({})) as gone:
        pass
    with pytest.raises(DeploymentError, match="cannot be reached: the connection broke, or there is none"):
        hook(gone).tell(BODY)


def test_the_readme_s_line_comes_to_the_same(tmp_path: Path) -> None:
    (line,) = re.findall(r"`(openssl dgst [^`]+)`", README)
    (tmp_path / "release.json").write_bytes(BODY)
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env={**os.environ, notify.SECRET: SECRET}, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    assert f"sha256={done.stdout.split()[-1]}" == notify.signature(BODY, SECRET)

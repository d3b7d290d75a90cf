"""Which jobs GitHub gives no secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pakman import event


def job(folder: Path, name: str, payload: Any, **more: str) -> dict[str, str]:
    file = folder / "event.json"
    file.write_text(json.dumps(payload))
    return {"GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": str(file), **more}


def request(head: str | None, base: str = "acme/shop") -> dict[str, Any]:
    repo = None if head is None else {"full_name": head}
    return {"pull_request": {"head": {"repo": repo}, "base": {"repo": {"full_name": base}}}}


@pytest.mark.parametrize("head", ["mallory/shop", None])
@pytest.mark.parametrize("name", ["pull_request", "pull_request_review"])
def test_a_pull_request_from_a_fork_has_none(tmp_path: Path, name: str, head: str | None) -> None:
    assert "from a fork" in event.without_secrets(job(tmp_path, name, request(head)))


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("pull_request", request("acme/shop")),
        ("pull_request", request("mallory/shop", "mallory/shop")),
        ("pull_request_target", request("mallory/shop")),
        ("push", request("mallory/shop")),
        ("pull_request", {}),
        ("pull_request", []),
        ("pull_request", {"pull_request": None}),
    ],
)
def test_any_other_event_has_them(tmp_path: Path, name: str, payload: Any) -> None:
    assert event.without_secrets(job(tmp_path, name, payload)) == ""


@pytest.mark.parametrize("name", ["push", "pull_request"])
def test_dependabots_have_none(tmp_path: Path, name: str) -> None:
    env = job(tmp_path, name, request("acme/shop"), GITHUB_ACTOR="dependabot[bot]")
    assert "Dependabot" in event.without_secrets(env)


@pytest.mark.parametrize("path", ["", "nowhere.json"])
def test_without_a_payload_nothing_is_held_against_a_job(path: str) -> None:
    assert event.without_secrets({"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": path}) == ""
    assert event.without_secrets({}) == ""


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\0"], ids=["broken", "list", "deep", "binary"])
def test_nor_by_a_payload_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "event.json"
    file.write_text(text)
    assert event.without_secrets({"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(file)}) == ""


@pytest.mark.parametrize(
    ("name", "proposed"),
    [("pull_request", True), ("pull_request_target", True), ("merge_group", True), ("push", False), ("", False)],
)
def test_a_change_is_proposed_before_it_is_made(name: str, proposed: bool) -> None:
    assert event.is_proposal({"GITHUB_EVENT_NAME": name}) == proposed

"""The event that started a job, as far as it decides what the job may know.

Sources: docs.github.com, "Events that trigger workflows" (workflows in forked repositories) and "Automating Dependabot
with GitHub Actions": neither is given the repository's secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_secrets(env: Mapping[str, str]) -> str:
    """Return why GitHub gave the job no secrets, as the end of a sentence; empty where it gave them."""
    if env.get("GITHUB_ACTOR") == "dependabot[bot]":
        return "GitHub gives Dependabot's jobs no secrets"
    # pull_request_target runs what is in the base's branch, and has them.
    if not env.get("GITHUB_EVENT_NAME", "").startswith("pull_request") or env["GITHUB_EVENT_NAME"].endswith("_target"):
        return ""
    request = _payload(env).get("pull_request")
    head, base = _repository(request, "head"), _repository(request, "base")
    if base is None or head == base:
        return ""
    return "GitHub gives a pull request from a fork no secrets"


def is_proposal(env: Mapping[str, str]) -> bool:
    """Say whether the job runs for a change that is only proposed: a pull request, or one in a merge queue."""
    event = env.get("GITHUB_EVENT_NAME", "")
    return event.startswith("pull_request") or event == "merge_group"


def _payload(env: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(Path(env.get("GITHUB_EVENT_PATH", "")).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _repository(request: Any, side: str) -> str | None:
    """Return the repository of a pull request's side; None where it has been deleted."""
    try:
        return str(request[side]["repo"]["full_name"])
    except (KeyError, TypeError):
        return None

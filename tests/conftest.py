"""Two rings: everything outside tests/integration may neither run a program nor open a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("pakman", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pakman")

INTEGRATION = Path(__file__).parent / "integration"


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test: a shell that starts us in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag that writes the golden files anew."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden from what the program says now")


@pytest.fixture(autouse=True)
def _hermetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test of the hermetic ring that runs a program or opens a socket."""
    if INTEGRATION in request.path.parents:
        return

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a hermetic test ran a program or opened a socket: it belongs in tests/integration")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "posix_spawn", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a CI job's own GITHUB_* and AWS_* from the program under test."""
    for key in list(os.environ):
        if key.startswith(("GITHUB_", "AWS_", "INPUT_", "PAKMAN_", "RUNNER_")) and key != "AWS_CA_BUNDLE":
            monkeypatch.delenv(key)

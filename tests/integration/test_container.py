"""The action in its own image, as GitHub's runner runs it: mounts, environment, uids, file commands, log."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests import runner
from tests.engine import Engine
from tests.runner import Job

pytestmark = [pytest.mark.docker, pytest.mark.alpine, pytest.mark.git]

MANIFEST = """\
stack: alpine/3.23
description: A shop
license: MIT
url: https://example.com/shop
build:
  command: |
    {command}
  destinations: [app]
"""


def manifest(command: str) -> str:
    """Return a manifest whose package holds `app`, which the command makes."""
    return MANIFEST.format(command=command.strip().replace("\n", "\n    "))


SHOP = manifest("echo sold > app")


@pytest.fixture
def job(docker_engine: Engine, action: str, tmp_path: Path) -> Callable[[Mapping[str, str] | Path], Job]:
    """Make the test's job, with these files in its repository."""
    return lambda files: runner.job(docker_engine, action, tmp_path / "job", files)


def test_a_problem_stands_at_its_line(job: Callable[[Mapping[str, str]], Job]) -> None:
    step = job({"instellar.yml": SHOP.replace("license", "licence")}).step({"command": "validate"})
    assert step.status == 3
    assert any(error.startswith("file=instellar.yml,line=3,") for error in step.commands("error")), step.log


def test_the_image_holds_what_the_action_needs_and_no_leftovers(docker_engine: Engine, action: str) -> None:
    config = json.loads(docker_engine.ask("image", "inspect", "--format", "{{json .Config}}", action))
    # GitHub's file commands belong to root in here.
    assert config.get("User", "") in ("", "root")
    assert config["Labels"]["org.opencontainers.image.title"] == "pakman"
    look = """
        find /var/cache/apk /tmp /root /opt/pakman/lib -name '*.apk' -o -path '*/.cache/*' -o -path '*/pip/*'
        find /opt/pakman/lib -name '*.py' | while read -r file; do
            ls "${file%/*}/__pycache__/" | grep -qF "$(basename "$file" .py).cpython" || echo "$file is not compiled"
        done
    """
    assert docker_engine.ask("run", "--rm", "--network=none", "--entrypoint=sh", action, "-c", look) == ""

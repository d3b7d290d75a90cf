"""The build root native, which is the action's container itself: files of tests that run inside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine import Engine

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).parents[2]
INSIDE = """
import sys
# Behind what the image has: of pytest and what it needs, nothing is compiled.
sys.path.append("/packages")
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--noconftest", "--basetemp=/contract/tmp", *sys.argv[1:]]))
"""


def in_the_actions_container(engine: Engine, action: str, file: str) -> None:
    """Run a file's tests in a container of the action's image."""
    done = engine.run(
        *("run", "--rm", "--init", "--network=none", "--volume", f"{REPOSITORY}:/project:ro"),
        *("--volume", f"{Path(pytest.__file__).parents[1]}:/packages:ro", "--tmpfs", "/contract:exec"),
        *("--env=PYTHONDONTWRITEBYTECODE=1", "--env=PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"),
        *("--workdir=/project", "--entrypoint=/opt/pakman/bin/python3", action, "-c", INSIDE),
        f"tests/integration/{file}",
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    assert " passed" in said
    assert " skipped" not in said


@pytest.mark.parametrize("file", ["test_buildroots.py", "inside_native.py"], ids=["contract", "machine"])
def test_holds_in_the_actions_container(docker_engine: Engine, action: str, file: str) -> None:
    in_the_actions_container(docker_engine, action, file)

"""SIGKILL at any point: what readers see is in order then, and the next run leaves what one undisturbed would have."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import kill, start
from tests.proxy import Request, proxy
from tests.scenes import Scene, Scenes
from tests.servers import S3Server

pytestmark = pytest.mark.s3

POINTS = int(os.environ.get("PAKMAN_TEST_KILLS", "24"))
"""Of all the requests that the two runs make; more than a few hundred are the same ones again."""


@pytest.fixture(scope="session")
def scenes(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(s3_server, "killed", tmp_path_factory.mktemp("scenes"))


def run(scene: Scene, log: Path, **hooks: Any) -> int | None:
    """Run to the end, through a proxy, and return the exit code."""
    with proxy(scene.server.endpoint, **hooks) as endpoint:
        process = start(scene.argv, {**scene.server.env, "AWS_ENDPOINT_URL": endpoint}, log)
        process.join()
    return process.exitcode


def killed(scene: Scene, log: Path, number: int, *, is_lost: bool) -> int | None:
    """Kill a run at its request of this number, which is lost, or which the server still heeds; return its status."""
    started = threading.Event()

    def reached(request: Request) -> None:
        if request.number == number:
            started.wait()
            kill(process)
            if is_lost:
                raise ConnectionResetError

    hook: dict[str, Any] = {"begun" if is_lost else "before": reached}
    with proxy(scene.server.endpoint, **hook) as endpoint:
        process = start(scene.argv, {**scene.server.env, "AWS_ENDPOINT_URL": endpoint}, log)
        started.set()
        process.join()
    return process.exitcode


def points(count: int) -> Iterator[tuple[str, float, bool, float]]:
    """Yield where runs are killed: how far in its requests, whether that one is lost, how far in the second run."""
    draw = random.Random(20261121)
    for number in range(count):
        second = draw.random() if number % 4 == 0 else 1.0
        yield ("push --channel", "release")[number % 2], (number + draw.random()) / count, draw.random() < 0.5, second


@pytest.mark.parametrize(
    ("name", "place", "is_lost", "second"),
    list(points(POINTS)),
    ids=lambda value: f"{value:.3f}" if isinstance(value, float) else str(value),
)
def test_a_run_that_was_killed_is_finished_by_the_next(
    scenes: Scenes, tmp_path: Path, name: str, place: float, *, is_lost: bool, second: float
) -> None:
    scene, log = scenes[name], tmp_path / "log"
    scene.restore()
    if not scene.requests:
        seen: list[Request] = []
        assert run(scene, log, begun=seen.append) == 0, log.read_text()
        scene.requests, scene.expected = len(seen), scene.reader.listed()
        scene.restore()
    with scene.reader.polling(0.1):
        assert killed(scene, log, 1 + int(place * scene.requests), is_lost=is_lost) == -9
        scene.reader.look()
        if second < 1:
            # What is there already is not sent again: it may come to its end before it is killed.
            assert killed(scene, log, 1 + int(second * scene.requests), is_lost=is_lost) in (-9, 0)
            scene.reader.look()
        assert run(scene, log) == 0, log.read_text()
    assert scene.reader.listed() == scene.expected
    assert scene.reader.uploads() == []

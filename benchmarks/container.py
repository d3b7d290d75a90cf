"""The action's container: from `docker run` to the first line of output, against `docker run alpine true`.

Run it as `python -m benchmarks.container`. Both take turns, without a network, and each is given by the median of its
rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from pakman.buildroots import rootfs
from tests.action_image import action_image
from tests.engine import Engine, base_image, running_engine

ROUNDS = 15
LIMIT = 3.0
CACHE = Path(__file__).parents[1] / ".cache"


def main() -> int:
    """Print a line for the promise; return 1 where it is not kept."""
    with running_engine(CACHE) as engine:
        alpine = base_image(engine, rootfs.unpacked(None, CACHE, os.environ))
        action = action_image(engine, alpine, os.environ.get("PAKMAN_TEST_ABUILD_IMAGE", ""), CACHE)
        bare: list[float] = []
        first: list[float] = []
        for turn in range(ROUNDS + 1):
            times = _until_the_end(engine, alpine, "true"), _until_the_first_line(engine, action)
            if turn > 0:  # the first turn warms the disk's cache
                bare.append(times[0])
                first.append(times[1])
    ratio = median(first) / median(bare)
    print(
        f"container to the first line: {ratio:.2f} x docker run alpine true (limit {LIMIT}; "
        f"{median(first) * 1000:.0f} ms, {median(bare) * 1000:.0f} ms) {'ok' if ratio <= LIMIT else 'MISSED'}"
    )
    return 0 if ratio <= LIMIT else 1


def _run(*words: str) -> list[str]:
    return ["docker", "run", "--rm", "--network=none", *words]


def _until_the_end(engine: Engine, *words: str) -> float:
    start = time.perf_counter()
    subprocess.run(_run(*words), check=True, env=engine.env)
    return time.perf_counter() - start


def _until_the_first_line(engine: Engine, image: str) -> float:
    start = time.perf_counter()
    with subprocess.Popen(
        _run("--env=INPUT_COMMAND=validate", "--env=GITHUB_ACTIONS=true", image),
        env=engine.env,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - start
        assert line.startswith(b"pakman validate"), line
        process.stdout.read()
    return took


if __name__ == "__main__":
    sys.exit(main())

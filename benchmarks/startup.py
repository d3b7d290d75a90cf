"""Start-up against the bare interpreter's: `pakman --version`, and `pakman validate` on a manifest of about 100 lines.

Run it as `python -m benchmarks.startup`. The commands take turns, and each is given by the median of its rounds. They
are run by the launcher that pip wrote, with bytecode at hand, as in any installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.manifests import FULL

ROUNDS = 31
LIMITS = {"--version": 1.5, "validate": 5.0}


def main() -> int:
    """Print a line for each promise; return 1 where one is not kept."""
    with tempfile.TemporaryDirectory(prefix="pakman-startup.") as name:
        file = Path(name) / "instellar.yml"
        file.write_text(FULL)
        pakman = [str(Path(sys.executable).with_name("pakman"))]
        commands = {
            "bare": [sys.executable, "-c", "pass"],
            "--version": [*pakman, "--version"],
            "validate": [*pakman, "validate", str(file)],
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GITHUB_"))}
        times: dict[str, list[float]] = {key: [] for key in commands}
        for turn in range(ROUNDS + 1):
            for key, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
                if turn > 0:  # the first turn writes bytecode and warms the disk's cache
                    times[key].append(time.perf_counter() - start)
    bare = median(times["bare"])
    kept = []
    for key, limit in LIMITS.items():
        ratio = median(times[key]) / bare
        kept.append(ratio <= limit)
        what = f"validate on {len(FULL.splitlines())} lines" if key == "validate" else key
        print(
            f"pakman {what}: {ratio:.2f} x python -c pass (limit {limit}; {median(times[key]) * 1000:.1f} ms, "
            f"{bare * 1000:.1f} ms) {'ok' if kept[-1] else 'MISSED'}"
        )
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())

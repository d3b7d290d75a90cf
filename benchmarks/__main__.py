"""`make bench`: every benchmark in turn, each in a process of its own; the status says if all promises are kept."""

from __future__ import annotations

import subprocess
import sys


def main() -> int:
    """Run them all, whatever the first ones say."""
    missed = 0
    for name in ("startup", "packing", "pushing", "merging", "container", "abuild", "machine"):
        print(f"== {name}", flush=True)
        missed += subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

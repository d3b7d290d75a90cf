"""Packing against `tar c | gzip -9`, on one core and on two, and the memory it takes.

Run it as `python -m benchmarks.packing`. Both sides read the same warm files and write to the same disk, take turns,
and each is given by the best of its rounds.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES = 10_000
FILE_SIZE = 20_000
ROUNDS = 3
LIMIT_ONE_CORE = 1.3
LIMIT_TWO_CORES = 1.0
LIMIT_MEMORY = 150
"""MB."""


def main() -> int:
    """Print a line for each promise; return 1 where one is not kept."""
    if len(sys.argv) > 1:
        return _pack(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    kept = []
    with tempfile.TemporaryDirectory(prefix="pakman-packing.") as name:
        directory = Path(name)
        tree = directory / "tree"
        _fill(tree)
        cores = sorted(os.sched_getaffinity(0))
        peak = 0.0
        for count, limit in ((1, LIMIT_ONE_CORE), (2, LIMIT_TWO_CORES)):
            if len(cores) < count:
                print(f"packing on {count} cores: this machine has {len(cores)}")
                continue
            ours, theirs = [], []
            for _ in range(ROUNDS):
                theirs.append(_tar_and_gzip(tree, directory, cores[:count]))
                seconds, memory = _pakman(tree, directory, cores[:count])
                ours.append(seconds)
                peak = max(peak, memory)
            ratio = min(ours) / min(theirs)
            kept.append(ratio <= limit)
            print(
                f"packing {FILES} files of {FILES * FILE_SIZE / 1e6:.0f} MB on {count} core{'s'[: count - 1]}: "
                f"{ratio:.2f} x tar c | gzip -9 (limit {limit}; {min(ours):.2f} s, {min(theirs):.2f} s; "
                f"{_size(directory / 'ours.apk')} MB, {_size(directory / 'theirs.tar.gz')} MB) {_verdict(kept[-1])}"
            )
        kept.append(peak <= LIMIT_MEMORY)
        print(f"packing {FILES} files: peak memory {peak:.0f} MB (limit {LIMIT_MEMORY}) {_verdict(kept[-1])}")
        big = directory / "big"
        _fill_with_one_file(big)
        _, peak = _pakman(big, directory, cores)
        kept.append(peak <= LIMIT_MEMORY)
        print(f"packing one file of 2 GB: peak memory {peak:.0f} MB (limit {LIMIT_MEMORY}) {_verdict(kept[-1])}")
    return 0 if all(kept) else 1


def _verdict(kept: bool) -> str:  # noqa: FBT001
    return "ok" if kept else "MISSED"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f}"


def _fill(tree: Path) -> None:
    """Half of the files read like text, half are random; a hundred directories."""
    source = random.Random(2)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(source.choices(letters, k=source.randint(2, 10))) for _ in range(5_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    for number in range(FILES):
        file = tree / f"usr/share/{number % 100:02}/{number:05}"
        if number < 100:
            file.parent.mkdir(parents=True)
        if number % 2:
            content = source.randbytes(FILE_SIZE)
        else:
            content = " ".join(source.choices(words, weights, k=FILE_SIZE // 3)).encode()[:FILE_SIZE]
        file.write_bytes(content.ljust(FILE_SIZE))


def _fill_with_one_file(tree: Path) -> None:
    file = tree / "usr/share/big"
    file.parent.mkdir(parents=True)
    with file.open("wb") as out:
        for _ in range(64):
            out.write(os.urandom(1 << 20))
        out.truncate(2_000_000_000)


def _tar_and_gzip(tree: Path, directory: Path, cores: list[int]) -> float:
    began = time.perf_counter()
    subprocess.run(
        ["sh", "-c", 'tar -c -C "$0" . | gzip -9 > "$1"', str(tree), str(directory / "theirs.tar.gz")],
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return time.perf_counter() - began


def _pakman(tree: Path, directory: Path, cores: list[int]) -> tuple[float, float]:
    """Return seconds and peak memory in MB of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.packing", str(tree), str(directory / "ours.apk"), str(len(cores))],
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        cwd=Path(__file__).parents[1],
    )
    found = json.loads(done.stdout)
    return found["seconds"], found["memory"]


def _pack(tree: Path, path: Path, threads: int) -> int:
    from pakman import signing
    from pakman.apk.metadata import Metadata
    from pakman.apk.write import write_package

    key = signing.generate("packing.rsa.pub")
    metadata = Metadata(pkgname="packing", pkgver="1-r0", arch="x86_64", origin="packing", license="MIT")
    owner, group = os.getuid(), os.getgid()
    began = time.perf_counter()
    write_package(
        path,
        metadata,
        tree,
        scripts={},
        owners={owner: "root"},
        groups={group: "root"},
        mtime=0,
        keys=[key],
        threads=threads,
    )
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "memory": memory}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

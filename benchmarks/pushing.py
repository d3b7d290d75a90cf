"""Pushing 1,000 packages of 20 KB and one of 512 MB, against `s5cmd` and `aws s3 cp` to the same server; and 5 GB.

Run it as `python -m benchmarks.pushing`. Everything counts: the start of Python and boto3's import on one side, the
start of the others on theirs. They take turns, each time into a new bucket, under the same keys; of the rounds' ratios
the median counts. What a package of 5 GB, a sparse file, takes of memory is a ratio, too: to what one of 512 MB takes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from pakman.apk.package import Package
from pakman.repository import INDEX_FILE, BuiltBy, Repository
from tests.servers import S3Server, running_s3_server

LIMIT = 1.2
"""Of s5cmd's time; of aws's it is 1."""
LIMIT_MEMORY = 1.1
ROUNDS = 9
SMALL, SMALL_SIZE = 1000, 20_000
LARGE_SIZE = 512 << 20
HUGE_SIZE = 5 << 30
ARCH = "x86_64"
FOLDER = f"deployments/acme/notes/{'0' * 40}"
"""Where pakman puts them. A server has more to do for a key of more parts."""
PROGRAMS = Path(sys.executable).parent

PUSH = """
import os, sys
from pathlib import Path
from pakman import publish, repository
from pakman.bucket import open_bucket
publish.publish(
    repository.read(Path(sys.argv[1])),
    open_bucket(sys.argv[2], endpoint_url=None, region=None, env=dict(os.environ)),
)
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")))
"""
"""Ends with its peak memory; getrusage would begin with that of the process which it was forked from."""


def make_repository(directory: Path, packages: int, size: int, large: int) -> None:
    """Write a repository: what is in a package is nothing to a bucket. The small ones are random bytes."""
    folder = directory / ARCH
    folder.mkdir(parents=True)
    made = [_random(folder, number, size) for number in range(packages)]
    made.append(_random(folder, packages, large) if large < HUGE_SIZE else _sparse(folder, packages, large))
    (folder / INDEX_FILE).write_bytes(os.urandom(100_000))
    (directory / "acme-notes.rsa.pub").write_text("a public key\n")
    repository = Repository(
        directory=directory,
        arch=ARCH,
        owner="acme",
        project="notes",
        slug="notes",
        commit="0" * 40,
        stack="alpine/3.23",
        key_name="acme-notes.rsa.pub",
        packages=tuple(made),
        builder=BuiltBy("embedded", "0.1.0"),
    )
    repository.manifest_file.write_text(repository.to_json())


def _random(folder: Path, number: int, length: int) -> Package:
    path = folder / f"package{number}-1.0.0-r0.apk"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, length, 1 << 20):
            block = os.urandom(min(1 << 20, length - start))
            file.write(block)
            digest.update(block)
    return Package(f"package{number}", "1.0.0-r0", ARCH, path, length, digest.hexdigest())


def _sparse(folder: Path, number: int, length: int) -> Package:
    path = folder / f"package{number}-1.0.0-r0.apk"
    with path.open("wb") as file:
        file.truncate(length)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Package(f"package{number}", "1.0.0-r0", ARCH, path, length, digest.hexdigest())


def _run(argv: list[str], server: S3Server) -> str:
    """Run a program to its end and return what it printed."""
    env = {**os.environ, **server.env, "S3_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1"}
    return subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def pushed(directory: Path, server: S3Server, bucket: str) -> str:
    """Push with pakman; return its peak memory as the kernel says it."""
    return _run([sys.executable, "-c", PUSH, str(directory), f"s3://{bucket}"], server)


def copied(directory: Path, server: S3Server, bucket: str) -> str:
    """Copy the same files with s5cmd."""
    return _run([str(PROGRAMS / "s5cmd"), "cp", f"{directory}/", f"s3://{bucket}/{FOLDER}/"], server)


def copied_by_aws(directory: Path, server: S3Server, bucket: str) -> str:
    """Copy the same files with Amazon's own program."""
    argv = ["s3", "cp", "--recursive", "--only-show-errors", str(directory), f"s3://{bucket}/{FOLDER}/"]
    return _run([str(PROGRAMS / "aws"), *argv], server)


SHIPPERS: dict[str, Callable[[Path, S3Server, str], str]] = {
    "pakman": pushed,
    "s5cmd": copied,
    "aws": copied_by_aws,
}


def main() -> int:
    """Print a line for each promise; return 1 where one is not kept."""
    with tempfile.TemporaryDirectory() as folder, running_s3_server(Path(folder) / "server") as server:
        times, peak = _race(Path(folder) / "repository", server)
        highest = _huge(Path(folder) / "huge", server)
    ours = times["pakman"]
    kept = []
    for name, limit in (("s5cmd", LIMIT), ("aws", 1.0)):
        # Of one round: a machine that others share is not the same a minute later.
        ratio = median(mine / theirs for mine, theirs in zip(ours, times[name], strict=True))
        kept.append(ratio <= limit)
        print(
            f"pushing {SMALL} x {SMALL_SIZE / 1e3:.0f} KB and 1 x {LARGE_SIZE >> 20} MB: {ratio:.2f} x {name} "
            f"(limit {limit}; {median(ours):.2f} s, {median(times[name]):.2f} s) {'ok' if kept[-1] else 'MISSED'}"
        )
    kept.append(highest <= LIMIT_MEMORY * peak)
    print(
        f"pushing 1 x {HUGE_SIZE >> 30} GB: peak memory {highest / peak:.2f} x that of {LARGE_SIZE >> 20} MB "
        f"(limit {LIMIT_MEMORY}; {highest:.0f} MB, {peak:.0f} MB) {'ok' if kept[-1] else 'MISSED'}"
    )
    return 0 if all(kept) else 1


def _race(directory: Path, server: S3Server) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each round by who shipped, and pakman's highest peak in MB."""
    make_repository(directory, SMALL, SMALL_SIZE, LARGE_SIZE)
    client = server.client()
    times: dict[str, list[float]] = {name: [] for name in SHIPPERS}
    peak = 0.0
    for number in range(ROUNDS):
        # Each goes first as often as it can: the server is warmer for the second.
        first = number % len(SHIPPERS)
        for name in [*SHIPPERS, *SHIPPERS][first : first + len(SHIPPERS)]:
            bucket = f"{name}-{number}"
            client.create_bucket(Bucket=bucket)
            began = time.monotonic()
            said = SHIPPERS[name](directory, server, bucket)
            times[name].append(time.monotonic() - began)
            if name == "pakman":
                peak = max(peak, _megabytes(said))
            # The server has room for a few rounds only; and SeaweedFS lets a bucket go with all that is in it.
            client.delete_bucket(Bucket=bucket)
    return times, peak


def _huge(directory: Path, server: S3Server) -> float:
    """Return pakman's peak in MB with a very large package."""
    make_repository(directory, 0, 0, HUGE_SIZE)
    server.client().create_bucket(Bucket="huge")
    return _megabytes(pushed(directory, server, "huge"))


def _megabytes(said: str) -> float:
    return int(said.split()[-2]) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())

"""Pushing 1,000 packages of 20 KB and one of 512 MB, against `s5cmd` to the same server.

Run it as `python -m benchmarks.pushing`. Everything counts: the start of Python and boto3's import on one side, the
start of s5cmd on the other. Both take turns, each time into a new bucket; the median of the rounds counts.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from pakman.apk.package import Package
from pakman.repository import INDEX_FILE, BuiltBy, Repository
from tests.servers import S3Server, running_s3_server

LIMIT = 1.2
ROUNDS = 3
SMALL, SMALL_SIZE = 1000, 20_000
LARGE_SIZE = 512 << 20
ARCH = "x86_64"
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
"""


def make_repository(directory: Path, packages: int, size: int, large: int) -> None:
    """Write a repository of random bytes: what is in a package is nothing to a bucket."""
    folder = directory / ARCH
    folder.mkdir(parents=True)
    made = []
    for number, length in enumerate([size] * packages + [large]):
        path = folder / f"package{number}-1.0.0-r0.apk"
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, length, 1 << 20):
                block = os.urandom(min(1 << 20, length - start))
                file.write(block)
                digest.update(block)
        made.append(Package(f"package{number}", "1.0.0-r0", ARCH, path, length, digest.hexdigest()))
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


def seconds(argv: list[str], server: S3Server) -> float:
    """Run a program to its end and return how long that took."""
    env = {**os.environ, **server.env, "S3_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1"}
    began = time.monotonic()
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def pushed(directory: Path, server: S3Server, bucket: str) -> float:
    """Push with pakman."""
    return seconds([sys.executable, "-c", PUSH, str(directory), f"s3://{bucket}"], server)


def copied(directory: Path, server: S3Server, bucket: str) -> float:
    """Copy the same files with s5cmd."""
    return seconds([str(PROGRAMS / "s5cmd"), "cp", f"{directory}/", f"s3://{bucket}/"], server)


def main() -> int:
    """Print the ratio; return 1 where it is above the limit."""
    with tempfile.TemporaryDirectory() as folder, running_s3_server(Path(folder) / "server") as server:
        directory = Path(folder) / "repository"
        make_repository(directory, SMALL, SMALL_SIZE, LARGE_SIZE)
        client = server.client()
        times: dict[str, list[float]] = {"pakman": [], "s5cmd": []}
        for number in range(ROUNDS):
            # Each goes first as often as it can: the server is warmer for the second.
            for name, ship in sorted({"pakman": pushed, "s5cmd": copied}.items(), reverse=number % 2 == 1):
                bucket = f"{name}-{number}"
                client.create_bucket(Bucket=bucket)
                times[name].append(ship(directory, server, bucket))
                # The server has room for a few rounds only; and SeaweedFS lets a bucket go with all that is in it.
                client.delete_bucket(Bucket=bucket)
        ours, theirs = median(times["pakman"]), median(times["s5cmd"])
        ratio = ours / theirs
        print(
            f"pushing {SMALL} x {SMALL_SIZE / 1e3:.0f} KB and 1 x {LARGE_SIZE >> 20} MB: {ratio:.2f} x s5cmd "
            f"(limit {LIMIT}; {ours:.2f} s, {theirs:.2f} s) {'ok' if ratio <= LIMIT else 'MISSED'}"
        )
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

"""Merging one package into a channel's index of 50,000, on a real S3 server, and the memory it takes.

Run it as `python -m benchmarks.merging`. A whole process counts, from Python's start to its end: boto3's import, the
index's download, its signature and every entry checked, the new one merged, all of it sorted, compressed, signed and
stored under the condition that nobody was quicker. Beside it, in turns, `s5cmd` fetches and stores the same bytes, with
`gzip -d` and `gzip -9` in between, which look at nothing. Each is given by the median of its rounds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from statistics import median

from pakman import signing
from pakman.apk.index import Stanza
from pakman.bucket import Bucket, Location
from pakman.channels import Channel
from tests.servers import S3Server, running_s3_server

ENTRIES = 50_000
ROUNDS = 5
LIMIT_SECONDS = 2.0
LIMIT_MEMORY = 200
"""MB."""
LIMIT_RATIO = 2.0
ARCH = "x86_64"
KEY = "acme-notes.rsa.pub"
PLACE = Location("merging")
INDEX = f"s3://{PLACE.name}/channels/stable/{ARCH}/APKINDEX.tar.gz"
THEIRS = 's5cmd cp "$0" "$1" && gzip -dc "$1" | gzip -9 > "$2" && s5cmd cp "$2" "$3"'


def main() -> int:
    """Print a line for each promise; return 1 where one is not kept."""
    if len(sys.argv) > 1:
        return _merge(Path(sys.argv[1]), int(sys.argv[2]))
    with tempfile.TemporaryDirectory(prefix="pakman-merging.") as name, running_s3_server(Path(name) / "s3") as server:
        folder = Path(name)
        key, _ = signing.keygen(folder, KEY)
        server.client().create_bucket(Bucket=PLACE.name)
        _channel(key, server.env).edit(ARCH, lambda _: map(_stanza, range(ENTRIES)))
        ours, theirs, peaks = [], [], []
        for number in range(ROUNDS):
            theirs.append(_copied(server, folder))
            seconds, peak = _merged(server, key, ENTRIES + number)
            ours.append(seconds)
            peaks.append(peak)
        found = _channel(key, server.env).index(ARCH)
        assert found is not None
        assert len(found.stanzas) == ENTRIES + ROUNDS
    kept = (median(ours) <= LIMIT_SECONDS, median(ours) / median(theirs) <= LIMIT_RATIO, max(peaks) < LIMIT_MEMORY)
    what = f"merging one package into an index of {ENTRIES}"
    print(f"{what}: {median(ours):.2f} s (limit {LIMIT_SECONDS}) {_verdict(kept[0])}")
    print(
        f"{what}: {median(ours) / median(theirs):.2f} x fetching, gzip -9 and storing by s5cmd "
        f"(limit {LIMIT_RATIO}; {median(ours):.2f} s, {median(theirs):.2f} s) {_verdict(kept[1])}"
    )
    print(f"{what}: peak memory {max(peaks):.0f} MB (limit {LIMIT_MEMORY}) {_verdict(kept[2])}")
    return 0 if all(kept) else 1


def _verdict(kept: bool) -> str:  # noqa: FBT001
    return "ok" if kept else "MISSED"


def _stanza(number: int) -> Stanza:
    """Return an entry as a package with a service has it: ten versions of each of many names."""
    source = random.Random(number)
    name, version = f"notes{number // 10}", f"1.{number % 10}.0-r{number % 7}"
    return Stanza(
        f"C:Q1{b64encode(source.randbytes(20)).decode()}\nP:{name}\nV:{version}\nA:{ARCH}\n"
        f"S:{source.randrange(10**4, 10**8)}\nI:{source.randrange(10**4, 10**8)}\n"
        f"T:An application that keeps notes, the {number}th of its kind\nU:https://example.com/{name}\nL:MIT\n"
        f"o:{name}\nm:Jane Doe <jane@example.com>\nt:{1_700_000_000 + number}\nc:{source.randbytes(20).hex()}\n"
        f"D:/bin/sh {name}-openrc={version} so:libc.musl-{ARCH}.so.1\np:cmd:{name}={version}\n"
    )


def _channel(key: Path, env: dict[str, str]) -> Channel:
    return Channel(Bucket(PLACE, env=env), "stable", [signing.load(key.read_text(), KEY)])


def _merged(server: S3Server, key: Path, number: int) -> tuple[float, float]:
    """Return seconds and peak memory in MB of a process that merges one more package."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.merging", str(key), str(number)],
        env={**os.environ, **server.env},
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    return time.perf_counter() - began, json.loads(done.stdout)


def _merge(key: Path, number: int) -> int:
    _channel(key, dict(os.environ)).edit(ARCH, lambda stanzas: (*stanzas, _stanza(number)))
    # Not what getrusage says: that begins with the memory of the process which this one was forked from.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(int(line.split()[1]) * 1024 / 1e6)
    return 0


def _copied(server: S3Server, folder: Path) -> float:
    """Return the seconds that others take for the same bytes, unread."""
    began = time.perf_counter()
    subprocess.run(
        ["sh", "-c", THEIRS, INDEX, str(folder / "fetched"), str(folder / "packed"), f"s3://{PLACE.name}/copy"],
        env={
            **os.environ, **server.env, "S3_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())

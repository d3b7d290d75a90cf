"""Real parts: an Alpine root, an S3 server, a Docker Engine. One that is missing is a failure: nothing is skipped."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pakman.bucket import Location
from pakman.buildroots import rootfs
from tests import compiler
from tests.action_image import action_image
from tests.engine import Engine, NoEngineError, base_image, running_engine
from tests.openid import OpenIdProvider, running_openid_provider
from tests.servers import S3Server, running_s3_server
from tests.stores import Store

CACHE = Path(__file__).parents[2] / ".cache"
BUCKET = "packages"


@dataclass(frozen=True)
class AlpineRoot:
    """A private, writable copy of the Alpine root, and a way to run things in it as root."""

    path: Path

    def run(
        self, *argv: str, stdin: bytes = b"", env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the root, in namespaces of its own (PID, IPC), on the host's network."""
        return subprocess.run(
            [*_BWRAP, "--bind", str(self.path), "/", "--proc", "/proc", "--dev", "/dev", "--", *argv],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                **(env or {}),
            },
        )

    def sh(self, script: str, *, timeout: float = 120, **env: str) -> str:
        """Run a shell script that must succeed; return what it wrote to stdout."""
        done = self.run("/bin/sh", "-euc", script, timeout=timeout, env=env)
        assert done.returncode == 0, (script, done.returncode, done.stdout.decode(), done.stderr.decode())
        return done.stdout.decode()


_BWRAP = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"]


@pytest.fixture(scope="session")
def alpine_pristine() -> Path:
    """The unpacked root that nobody may write to."""
    return rootfs.unpacked(None, CACHE, os.environ)


@pytest.fixture(scope="session")
def compiler_rootfs(alpine_pristine: Path) -> Path:
    """An archive of the same root with build-base in it, for `--rootfs`."""
    return compiler.rootfs(CACHE, alpine_pristine)


@pytest.fixture
def alpine_root(alpine_pristine: Path, tmp_path: Path) -> Iterator[AlpineRoot]:
    """A fresh copy of the root, without repositories, for one test."""
    path = tmp_path / "alpine"
    subprocess.run(["cp", "-a", "--reflink=auto", str(alpine_pristine), str(path)], check=True)
    (path / "etc/apk/repositories").write_text("")
    yield AlpineRoot(path)
    # In a sixth of the time that shutil takes.
    subprocess.run(["rm", "-rf", str(path)], check=False)


@pytest.fixture(scope="session")
def openid_provider() -> Iterator[OpenIdProvider]:
    """Who says which job it is; the S3 server has a role for some."""
    with running_openid_provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory, openid_provider: OpenIdProvider) -> Iterator[S3Server]:
    """One SeaweedFS for the session (one per xdist worker)."""
    folder = tmp_path_factory.mktemp("s3")
    with running_s3_server(folder, openid_provider.trusted_by(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def client(s3_server: S3Server) -> Any:
    """Another client than ours, for a bucket that is there."""
    client = s3_server.client()
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def location(client: Any) -> Location:
    """Room for one test in the bucket."""
    del client
    return Location(BUCKET, f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture
def store(s3_server: S3Server, location: Location, client: Any) -> Store:
    """The same, and what is there."""
    return Store(s3_server, location, client)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker Engine, the same one for all workers; where none can be had, the tests that ask for it fail."""
    try:
        with running_engine(CACHE) as engine:
            yield engine
    except NoEngineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def abuild_image() -> str:
    """The tag of an image that has real abuild, which no registry at hand has; "" where there is none."""
    return os.environ.get("PAKMAN_TEST_ABUILD_IMAGE", "")


@pytest.fixture(scope="session")
def action(docker_engine: Engine, alpine_image: str, abuild_image: str) -> str:
    """The action's image, with real abuild where an image has it."""
    return action_image(docker_engine, alpine_image, abuild_image, CACHE)


@pytest.fixture(scope="session")
def alpine_image(docker_engine: Engine, alpine_pristine: Path) -> str:
    """The tag of an image made of the Alpine root."""
    return base_image(docker_engine, alpine_pristine)

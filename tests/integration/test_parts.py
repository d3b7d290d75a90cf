"""The real parts are real: what the other integration tests stand on."""

from __future__ import annotations

import pytest

from tests.engine import Engine
from tests.integration.conftest import AlpineRoot
from tests.servers import S3Server


@pytest.mark.alpine
def test_the_root_has_apk_and_openrc(alpine_root: AlpineRoot) -> None:
    assert alpine_root.sh("apk --version").startswith("apk-tools 3.")
    assert "openrc" in alpine_root.sh("apk info")


@pytest.mark.s3
def test_the_s3_server_takes_and_gives(s3_server: S3Server) -> None:
    client = s3_server.client()
    client.create_bucket(Bucket="parts")
    client.put_object(Bucket="parts", Key="a", Body=b"b")
    assert client.get_object(Bucket="parts", Key="a")["Body"].read() == b"b"


@pytest.mark.docker
def test_the_engine_runs_the_root(docker_engine: Engine, alpine_image: str) -> None:
    release = docker_engine.ask("run", "--rm", "--network", "none", alpine_image, "cat", "/etc/alpine-release")
    assert release.startswith("3.")

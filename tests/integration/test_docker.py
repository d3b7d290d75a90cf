"""The build root docker: its image, its container, and when it is the one that is taken."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from pakman import signing, stack
from pakman.apk.tree import Tree
from pakman.buildroots import choice, engine
from pakman.buildroots.docker import Docker
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError, UsageError
from pakman.manifest import Run
from pakman.stack import Stack
from tests import engine as engines
from tests.building import Builds, contents, manifest, private_cache

pytestmark = [pytest.mark.docker, pytest.mark.alpine]

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
# Nothing listens there: it cannot be reached, whatever this machine's network is.
NOWHERE = "127.0.0.1:9/alpine:3.23"


@pytest.fixture
def docker(docker_engine: engines.Engine) -> engine.Engine:
    return engine.must_find(docker_engine.env)


@pytest.fixture
def a_stack(alpine_image: str) -> Stack:
    """The stack whose image is the tests' own."""
    found = stack.find("alpine/3.23")
    assert found is not None
    return found._replace(build_images=(alpine_image,))


@pytest.fixture
def choose(docker_engine: engines.Engine, alpine_pristine: Path, tmp_path: Path) -> Callable[..., object]:
    cache = private_cache(tmp_path / "cache", alpine_pristine)

    def choose(kind: choice.Kind, wanted: Stack, said: list[str], archive: Path | None = None, **env: str) -> object:
        return choice.build_root(
            kind,
            wanted,
            archive=archive,
            cache=cache,
            env={**docker_engine.env, **env},
            on_notice=said.append,
            on_warning=said.append,
        )

    return choose


def test_the_first_image_that_can_be_had_is_taken(docker: engine.Engine, alpine_image: str) -> None:
    said: list[str] = []
    assert engine.image(docker, [alpine_image, NOWHERE], said.append) == alpine_image
    assert said == []
    # One that is here already may be another's: it does not take the place of one that was named before it.
    assert engine.image(docker, [NOWHERE, alpine_image], said.append) == alpine_image
    assert [line.split(" (")[0] for line in said] == [f"the image {NOWHERE}"]


def test_images_that_cannot_be_had_are_named_with_the_reason(docker: engine.Engine) -> None:
    said: list[str] = []
    with pytest.raises(BuildError, match=rf"no image to build in can be pulled: {NOWHERE} \(.*refused") as caught:
        engine.image(docker, [NOWHERE, NOWHERE.replace("3.23", "x")], said.append)
    assert [line.split(" (")[0] for line in said] == [f"the image {NOWHERE}"]
    assert "--build-root sandbox" in caught.value.hint
    with pytest.raises(BuildError, match="the stack has none"):
        engine.image(docker, [], said.append)


def test_the_same_package_comes_out_of_docker_and_of_the_sandbox(
    docker_engine: engines.Engine, alpine_image: str, alpine_pristine: Path, tmp_path: Path,
    a_stack: Stack,
) -> None:  # fmt: skip
    (tmp_path / "source/app").mkdir(parents=True)
    key = signing.generate("acme-shop.rsa.pub")
    builds = Builds(tmp_path / "source", private_cache(tmp_path / "cache", alpine_pristine), key)
    wanted = manifest("printf x >'app/n ü'; ln -s /etc app/link; chmod 700 app", run=Run(name="shop"))
    env = {**docker_engine.env, "AWS_SECRET_ACCESS_KEY": "secret"}
    made = {
        kind: builds.run(wanted, tmp_path / kind, stack=a_stack, build_root=kind, env=env).packages
        for kind in ("docker", "sandbox")
    }
    assert contents(made["docker"][0].path)["var/lib/shop/app/n ü"] == b"x"
    for one, other in zip(made["docker"], made["sandbox"], strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"downloads", "roots", "views"}


def test_a_build_that_failed_can_be_looked_at(docker: engine.Engine, alpine_image: str, tmp_path: Path) -> None:
    with Docker(docker, alpine_image, tmp_path) as root:
        root.copy_in(io.BytesIO(bytes(10240)), PurePosixPath("/pakman"), user="root")
        said = root.keep(PurePosixPath("/pakman"))
    assert said.startswith("/pakman of the image pakman-kept:")
    image = said.split()[4].rstrip(":")
    try:
        assert docker.ask("run", "--rm", "--network", "none", image, "ls", "-d", "/pakman").status == 0
    finally:
        docker.ask("rmi", image)


def test_a_container_sees_nothing_of_the_machine(docker: engine.Engine, alpine_image: str, tmp_path: Path) -> None:
    with Docker(docker, alpine_image, tmp_path) as root:
        lines: list[str] = []
        script = "hostname; find / -name docker.sock; grep -cE ' /(github|work|mnt|home)' /proc/mounts; env"
        root.call(["sh", "-c", script], user="root", env=PATH, on_line=lines.append)
        assert [line for line in lines if not line.startswith(("PATH=", "PWD=", "SHLVL="))] == ["pakman", "0"]


def test_capabilities_of_files_come_out(docker: engine.Engine, alpine_image: str, tmp_path: Path) -> None:
    # linux/capability.h: revision 2, CAP_NET_BIND_SERVICE permitted and effective.
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    entry = tarfile.TarInfo("tool")
    entry.pax_headers = {"SCHILY.xattr.security.capability": value.decode("latin-1")}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as packed:
        packed.addfile(entry)
    with Docker(docker, alpine_image, tmp_path) as root:
        subprocess.run(["docker", "cp", "-", f"{root.name}:/var/tmp"], input=tar.getvalue(), check=True, env=docker.env)
        with root.tree(PurePosixPath("/var/tmp")) as tree, Tree(tree) as files:
            assert dict(files.entries()[0].xattrs)[b"security.capability"] == value


def test_a_container_that_is_removed_meanwhile_is_a_sentence(
    docker: engine.Engine, alpine_image: str, tmp_path: Path
) -> None:
    with Docker(docker, alpine_image, tmp_path) as root:
        docker.ask("rm", "--force", root.name)
        with pytest.raises(BuildError, match="the build's container ended before the build did") as caught:
            root.call(["echo"], user="build", env=PATH, on_line=lambda _: None)
    assert "docker still running" in caught.value.hint


def test_an_image_that_does_not_start_or_is_not_alpines_is_a_sentence(
    docker: engine.Engine, docker_engine: engines.Engine, alpine_pristine: Path, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=r"container of no-such-image cannot be started: .*No such image") as caught:
        Docker(docker, "no-such-image", tmp_path).__enter__()
    assert "is no-such-image an image of Alpine" in caught.value.hint
    # No env, an env that is no program, a system without what it takes.
    other = {"usr/bin/env": "bin/busybox", "bin/sh": "bin/busybox"}
    other |= {str(path.relative_to(alpine_pristine)): "" for path in alpine_pristine.glob("lib/ld-musl-*")}
    for files, reason in (
        ({"file": "bin/sh"}, "/usr/bin/env"),
        ({"usr/bin/env": "etc"}, "/usr/bin/env"),
        (other, "mkdir: not found"),
    ):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as packed:
            for name, file in files.items():
                packed.add(alpine_pristine / (file or name), name, recursive=False)
        docker_engine.ask("import", "-", "pakman-test-other", stdin=tar.getvalue())
        try:
            with pytest.raises(BuildError, match=f"pakman-test-other cannot be started: .*{reason}") as caught:
                Docker(docker, "pakman-test-other", tmp_path).__enter__()
            assert "is pakman-test-other an image of Alpine" in caught.value.hint
        finally:
            docker_engine.ask("rmi", "pakman-test-other")


def test_auto_takes_docker_where_an_engine_answers(choose: Callable[..., object], a_stack: Stack) -> None:
    said: list[str] = []
    assert isinstance(choose("auto", a_stack, said), Docker)
    assert isinstance(choose("docker", a_stack, said), Docker)
    assert isinstance(choose("sandbox", a_stack, said), Sandbox)
    assert isinstance(choose("auto", a_stack, said, Path("root.tar.gz")), Sandbox)
    assert isinstance(choose("auto", a_stack, said, DOCKER_HOST="unix:///nowhere"), Sandbox)
    assert said == []


def test_auto_falls_back_to_a_sandbox_of_the_right_version(choose: Callable[..., object], a_stack: Stack) -> None:
    unreachable = a_stack._replace(build_images=(NOWHERE,))
    said: list[str] = []
    assert isinstance(choose("auto", unreachable, said), Sandbox)
    assert said[0].startswith(f"no image to build in can be pulled: {NOWHERE}")
    assert said[0].endswith("the build runs in the sandbox instead")
    with pytest.raises(BuildError, match="no image to build in"):
        choose("docker", unreachable, said)
    with pytest.raises(BuildError, match="no image to build in"):
        choose("auto", unreachable._replace(version="3.22"), said)


def test_an_engine_that_is_not_there_is_a_sentence(
    choose: Callable[..., object], a_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="none answers `docker version`") as silent:
        choose("docker", a_stack, [], DOCKER_HOST="unix:///nowhere")
    assert "DOCKER_HOST" in silent.value.hint
    monkeypatch.setattr("pakman.command._SYSTEM_PATH", "/nowhere")
    with pytest.raises(UsageError, match="neither docker nor podman is installed"):
        choose("docker", a_stack, [], PATH=str(tmp_path))
    (tmp_path / "podman").write_text("#!/bin/sh\nsleep 30")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setattr(engine, "_PATIENCE", 0.2)
    assert engine.find({"PATH": str(tmp_path)}) is None
    (tmp_path / "podman").write_text("#!/bin/sh\n:")
    found = engine.find({"PATH": str(tmp_path), "CONTAINER_HOST": "x", "AWS_SECRET_ACCESS_KEY": "secret"})
    assert found is not None
    assert (found.name, set(found.env)) == ("podman", {"PATH", "CONTAINER_HOST"})


def test_a_machine_that_is_not_alpine_is_no_root(choose: Callable[..., object], a_stack: Stack) -> None:
    with pytest.raises(UsageError, match=r"on this machine, which is not Alpine; alpine/3\.23 takes Alpine 3\.23"):
        choose("native", a_stack, [])


def test_a_root_of_ones_own_is_the_sandboxs(choose: Callable[..., object], a_stack: Stack) -> None:
    with pytest.raises(UsageError, match="--rootfs is the sandbox's Alpine root, and --build-root is docker"):
        choose("docker", a_stack, [], Path("root.tar.gz"))


def test_an_image_of_another_release_is_refused(docker_engine: engines.Engine, a_stack: Stack, tmp_path: Path) -> None:
    lying = a_stack._replace(name="alpine/3.22", version="3.22")
    (tmp_path / "source/app").mkdir(parents=True)
    builds = Builds(tmp_path / "source", tmp_path / "cache", signing.generate("acme-shop.rsa.pub"))
    wanted = replace(manifest(), stack="alpine/3.22")
    with pytest.raises(BuildError, match=r"stack is alpine/3\.22, but the build root is Alpine 3\.23"):
        builds.run(wanted, tmp_path / "out", stack=lying, build_root="docker", env=docker_engine.env)
    assert os.listdir(tmp_path / "out") == []  # noqa: PTH208

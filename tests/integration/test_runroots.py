"""What every run root keeps to: scripts one after the other, services in between, nothing before and nothing after."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pakman import stack
from pakman.errors import BuildError, UsageError
from pakman.runroots import RootEndedError, RunRoot, UntestableError, choice
from pakman.runroots.docker import Docker
from pakman.runroots.sandbox import Sandbox
from tests.building import must_go, private_cache, processes
from tests.engine import Engine
from tests.runroots import opened

pytestmark = pytest.mark.alpine

REPOSITORY = Path(__file__).parents[2]
SECRET = "secret-seen-1"
NOWHERE = "127.0.0.1:9/alpine:3.23"


@pytest.fixture(params=["sandbox", pytest.param("docker", marks=pytest.mark.docker)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if kind != "docker":
        return ""
    engine: Engine = request.getfixturevalue("docker_engine")
    monkeypatch.setenv("DOCKER_HOST", engine.env["DOCKER_HOST"])
    return str(request.getfixturevalue("alpine_image"))


@pytest.fixture
def cache(alpine_pristine: Path, tmp_path: Path) -> Path:
    return private_cache(tmp_path / "cache", alpine_pristine)


@pytest.fixture
def root(kind: str, cache: Path, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunRoot]:
    for name in ("AWS_SECRET_ACCESS_KEY", "ACTIONS_RUNTIME_TOKEN", "PAKMAN_SIGNING_KEY"):
        monkeypatch.setenv(name, SECRET)
    with opened(kind, cache, image) as found:
        yield found


def test_scripts_come_one_after_the_other(root: RunRoot) -> None:
    ran = root.run("echo one; echo two >&2; printf three; exit 7", 5)
    assert (ran.status, ran.lines) == (7, ("one", "two", "three"))
    assert root.run("", 5).lines == ()
    assert root.run("read -r line || echo no input", 5).lines == ("no input",)
    # Not what the talk with the shell is made of, and not its own text among the processes.
    assert root.run("printf 'a\\n\\nb\\n'; ps -o args | grep -c 'prin[t]f a' || :", 5).lines == ("a", "", "b", "0")
    assert (root.release.split(".")[:2], root.arch) == (["3", "23"], os.uname().machine)


def test_what_takes_too_long_is_ended_with_all_that_it_started(root: RunRoot) -> None:
    began = time.monotonic()
    ran = root.run("sleep 71 & setsid sleep 72 & sh -c 'trap \"\" TERM; echo begun; sleep 73'", 1)
    assert (ran.status, ran.lines) == (None, ("begun",))
    assert time.monotonic() - began < 10
    # A service is in a session of its own.
    assert root.run("ps -o args | grep '[s]leep 7'; pkill sleep", 5).lines == ("sleep 72",)


def test_output_without_an_end_does_not_take_the_memory(root: RunRoot) -> None:
    ran = root.run("yes | tr -d '\\n'", 1)
    assert ran.status is None
    assert sum(map(len, ran.lines)) < 1_000_000
    assert root.run("echo still here", 5).lines == ("still here",)


def test_nothing_in_its_output_is_obeyed_by_a_terminal(root: RunRoot) -> None:
    ran = root.run("printf '\\033[1;31mred\\033[0m\\ttab\\n\\033]0;title\\007\\rover\\302\\233 \\303\\274\\r\\n'", 5)
    assert ran.lines == ("red\ttab", "?]0;title??over? ü")


def test_nothing_of_this_machine_is_in_it(root: RunRoot) -> None:
    ran = root.run("env; cat /proc/*/environ | tr '\\0' '\\n'; find / -xdev -name '*.sock'; hostname", 9)
    assert SECRET not in "\n".join(ran.lines)
    names = {line.partition("=")[0] for line in ran.lines if "=" in line}
    assert names <= {"PATH", "HOME", "TERM", "PWD", "SHLVL", "OLDPWD"}
    assert not any(line.endswith(".sock") for line in ran.lines)
    assert root.run("ip -o addr | awk '{ print $2 }' | sort -u", 5).lines == ("lo",)
    assert root.run("nc -w 1 -z 127.0.0.1 22 || echo refused", 5).lines == ("refused",)


def test_root_has_no_more_rights_than_services_need(root: RunRoot) -> None:
    refused = root.run(
        "mount -t tmpfs none /mnt; echo x >/proc/sys/kernel/core_pattern; ip link set lo down; date -s 2001-01-01", 5
    )
    assert len(refused.lines) >= 4
    assert all(any(word in line for word in ("denied", "permitted", "Read-only")) for line in refused.lines[:4])
    allowed = "su -s /bin/sh nobody -c 'id -un'; touch /x; chown nobody /x; nc -l -p 80 & sleep 0.2; kill %1"
    assert root.run(f"set -e; {allowed}", 5).lines[:1] == ("nobody",)


def test_a_tree_comes_in_as_root_s(root: RunRoot) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as packed:
        entry = tarfile.TarInfo("pakman/file")
        entry.size, entry.mode = 5, 0o640
        packed.addfile(entry, io.BytesIO(b"whole"))
    tar.seek(0)
    root.copy_in(tar, PurePosixPath("/"))
    assert root.run("cat /pakman/file; echo; stat -c '%a %U' /pakman/file", 5).lines == ("whole", "640 root")
    with pytest.raises(BuildError, match="the run root cannot be filled"):
        root.copy_in(io.BytesIO(b"no tar at all" * 100), PurePosixPath("/"))


def test_services_live_from_one_script_to_the_next(root: RunRoot) -> None:
    script = """
        printf '%s\\n' '#!/sbin/openrc-run' 'supervisor=supervise-daemon' 'command=/bin/sleep' 'command_args=75' \
            >/etc/init.d/nap
        chmod 755 /etc/init.d/nap
        rc-service nap start
    """
    assert root.run(script, 20).status == 0
    assert "status: started" in root.run("rc-service nap status", 5).lines[-1]
    # What has ended and was nobody's child is buried, or the stop would wait for it.
    assert root.run("rc-service nap stop && ! pgrep -f 'sleep 75'; ps -o stat | grep -c Z", 20).lines[-1] == "0"


def test_a_root_that_was_ended_from_within_is_said(root: RunRoot) -> None:
    for _ in range(2):
        with pytest.raises(RootEndedError, match="the run root's first process was ended from within"):
            root.run("echo going; kill -9 -1", 5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_run_that_was_killed(kind: str, cache: Path, image: str, number: signal.Signals) -> None:
    seconds = f"35.{os.getpid()}{number.value}"
    argv = [sys.executable, "-m", "tests.runroots", kind, str(cache), image, seconds]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        started, _, name = run.stdout.readline().decode().strip().partition(" ")
        assert started == "started"
        must_go(lambda: len(processes("sleep", seconds)) < 2)
        run.send_signal(number)
    must_go(lambda: processes("sleep", seconds))
    if kind == "docker":
        must_go(lambda: subprocess.run(["docker", "inspect", name], capture_output=True, check=False).returncode == 0)
    else:
        with opened(kind, cache):
            assert len(list((cache / "views").iterdir())) == 1
        assert list((cache / "views").iterdir()) == []


def found(kind: choice.Kind, cache: Path, said: list[str], archive: Path | None = None, **changes: Any) -> RunRoot:
    wanted = stack.find("alpine/3.23")
    assert wanted is not None
    env = {"PATH": os.environ["PATH"], "DOCKER_HOST": os.environ.get("DOCKER_HOST", "")}
    env |= {name: str(changes.pop(name)) for name in list(changes) if name.isupper()}
    wanted = wanted._replace(**changes)
    place = choice.place(kind, wanted, archive=archive, cache=cache, env=env, on_warning=said.append)
    return place.run_root()


@pytest.mark.docker
def test_auto_takes_the_run_image_where_it_can_be_had(
    docker_engine: Engine, alpine_image: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.env["DOCKER_HOST"])
    said: list[str] = []
    assert isinstance(found("auto", cache, said, run_images=(alpine_image,)), Docker)
    assert isinstance(found("sandbox", cache, said, run_images=(alpine_image,)), Sandbox)
    assert isinstance(found("auto", cache, said, Path("root.tar.gz"), run_images=(alpine_image,)), Sandbox)
    assert said == []
    assert isinstance(found("auto", cache, said, run_images=(NOWHERE,)), Sandbox)
    assert said[0].startswith(f"no image to run in can be pulled: {NOWHERE}")
    assert said[0].endswith(": the test runs in the sandbox instead")
    with pytest.raises(UntestableError, match="no image to run in can be pulled"):
        found("docker", cache, said, run_images=(NOWHERE,))


def test_without_an_engine_the_sandbox_is_taken_where_it_is_the_stack_s(cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert isinstance(found("auto", cache, said, DOCKER_HOST="unix:///nowhere"), Sandbox)
    with pytest.raises(UntestableError, match=r"no Alpine 3\.20 to test in: neither .* the sandbox is Alpine 3\.23"):
        found("auto", cache, said, DOCKER_HOST="unix:///nowhere", version="3.20")
    with pytest.raises(UsageError, match="--run-root docker needs a container engine"):
        found("docker", cache, said, DOCKER_HOST="unix:///nowhere")
    with pytest.raises(UsageError, match="--rootfs is the sandbox's Alpine root, and --run-root is docker"):
        found("docker", cache, said, tmp_path)
    assert said == []


def test_without_bubblewrap_no_service_can_run(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(UntestableError, match=r"refuses bubblewrap, .*: bwrap: No permissions"):
        Sandbox(None, cache, {"PATH": str(tmp_path)}).__enter__()
    monkeypatch.setattr("pakman.command._SYSTEM_PATH", "/nowhere")
    with pytest.raises(UntestableError, match="there is no bubblewrap"):
        Sandbox(None, cache, {"PATH": "/nowhere"}).__enter__()
    assert list((cache / "views").iterdir()) == []

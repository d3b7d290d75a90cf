"""The sandbox: a private view, what a build can reach from it, what is left when it goes."""

from __future__ import annotations

import io
import os
import pwd
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from pakman import command, trace
from pakman.buildroots import User, rootfs, unprivileged
from pakman.buildroots import processes as of_roots
from pakman.buildroots.processes import of_group
from pakman.buildroots.sandbox import Confinement, Sandbox
from pakman.errors import BuildError, UsageError
from tests.building import must_come, must_go, private_cache, processes

pytestmark = pytest.mark.alpine

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture
def cache(alpine_pristine: Path, tmp_path: Path) -> Path:
    return private_cache(tmp_path / "cache", alpine_pristine)


@pytest.fixture(scope="module", params=["bubblewrap", "chroot"])
def sandbox(
    request: pytest.FixtureRequest, alpine_pristine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    own = private_cache(tmp_path_factory.mktemp("sandbox") / "cache", alpine_pristine)
    with Sandbox(None, own, os.environ, confinement=request.param) as entered:
        yield entered


def sh(sandbox: Sandbox, script: str, *, user: User = "build") -> list[str]:
    """Run a script in the sandbox; return what it wrote, its exit status last."""
    lines: list[str] = []
    status = sandbox.call(["sh", "-c", script], user=user, env=PATH, on_line=lines.append)
    return [*lines, str(status)]


def test_a_build_is_no_user_of_this_machine(sandbox: Sandbox) -> None:
    with subprocess.Popen(["sleep", "30"], user=1000, group=1000) as bystander:
        try:
            sh(sandbox, f"kill -9 {bystander.pid}; kill -9 -1")
            assert bystander.poll() is None
        finally:
            bystander.kill()
    with pytest.raises(KeyError):
        pwd.getpwuid(sandbox.build_user_id)


def test_nothing_of_the_machine_is_there(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for path in (tmp_path / "secret", Path(__file__), sandbox.path):
        assert path.exists()
        assert sh(sandbox, f"test -e '{path}'", user="root") == ["1"]
    assert sh(sandbox, "find / -name docker.sock 2>/dev/null; true") == ["0"]


def test_names_are_resolved_as_on_the_machine(sandbox: Sandbox) -> None:
    resolv = Path("/etc/resolv.conf")
    assert (sandbox.path / "etc/resolv.conf").read_text() == (resolv.read_text() if resolv.exists() else "")


def test_a_link_does_not_lead_out(sandbox: Sandbox, tmp_path: Path) -> None:
    sh(sandbox, f"mkdir /var/pkg; ln -s {tmp_path} /var/pkg/shop; ln -s / /var/link; touch /var/file", user="root")
    with sandbox.tree(PurePosixPath("/var/pkg")) as tree:
        assert tree == sandbox.path / "var/pkg"
    for path in ("/var/pkg/shop", "/var/link/etc", "/var/file", "/var/nothing"):
        with (
            pytest.raises(BuildError, match="is not the directory that it has to be"),
            sandbox.tree(PurePosixPath(path)),
        ):
            pass


def test_packages_that_are_there_need_no_network(sandbox: Sandbox) -> None:
    lines: list[str] = []
    began = time.monotonic()
    sandbox.add_packages(["curl", "busybox>1"], lines.append)
    assert lines[-1].startswith("OK:")
    assert not any("WARNING" in line for line in lines)
    sandbox.add_packages([], lines.append)
    assert time.monotonic() - began < 5


def test_views_do_not_see_each_other_and_go(cache: Path) -> None:
    with Sandbox(None, cache, os.environ) as one, Sandbox(None, cache, os.environ) as two:
        sh(one, "touch /etc/mine", user="root")
        assert sh(two, "test -e /etc/mine") == ["1"]
        assert (one.path.parent.stat().st_mode & 0o777, one.path != two.path) == (0o700, True)
    assert list((cache / "views").iterdir()) == []


def test_a_view_can_be_kept(cache: Path) -> None:
    with Sandbox(None, cache, os.environ) as sandbox:
        sh(sandbox, "touch /etc/mine", user="root")
        kept = Path(sandbox.keep(PurePosixPath("/etc")))
        assert not kept.exists()
    assert (kept / "mine").exists()
    with Sandbox(None, cache, os.environ):
        pass
    assert (kept / "mine").exists()


@pytest.mark.parametrize("confinement", ["bubblewrap", "chroot"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_survives_a_run_that_was_killed(cache: Path, confinement: Confinement, number: signal.Signals) -> None:
    nap = f"33.{os.getpid()}5"  # no other test's
    argv = [sys.executable, "-m", "tests.roots", confinement, str(cache), "", nap]
    with subprocess.Popen(
        argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"started \n"
        (view,) = (cache / "views").iterdir()
        must_come(lambda: processes("sleep", nap), 3)
        run.send_signal(number)
    must_go(lambda: processes("sleep", nap))
    must_go(lambda: of_roots.in_root(view / "root"))
    assert view.exists() == (number == signal.SIGKILL)
    with Sandbox(None, cache, os.environ):
        assert not view.exists()


@pytest.mark.parametrize("user", ["root", "build"])
def test_who_kills_bubblewrap_kills_the_first_process_in_it_as_well(cache: Path, user: User) -> None:
    class Seen(BaseException):
        pass

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def on_line(_: str) -> None:
        (program,) = must_come(lambda: processes("sleep", nap), 1)
        first = parent(program)
        assert parent(parent(first)) == os.getpid()
        # One group, which is killed in one go; what the program kills in its own is not among them.
        assert os.getpgid(first) == parent(first)
        assert os.getsid(program) == os.getpgid(program) == program
        raise Seen

    nap = f"34.{os.getpid()}5"  # no other test's
    with Sandbox(None, cache, os.environ, confinement="bubblewrap") as sandbox, pytest.raises(Seen):
        sandbox.call(["sh", "-c", f"echo started; exec sleep {nap}"], user=user, env=PATH, on_line=on_line)
    must_go(lambda: processes("sleep", nap))


@pytest.mark.parametrize("confinement", ["bubblewrap", "chroot"])
def test_a_root_that_does_not_work_is_a_sentence(tmp_path: Path, confinement: Confinement) -> None:
    archive = tmp_path / "root.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("etc/alpine-release")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"3\n"))
        for name in ("dev", "proc", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    with (
        pytest.raises(BuildError, match=r"the Alpine root does not work: .*No such file or directory") as caught,
        Sandbox(archive, tmp_path / "cache", os.environ, confinement=confinement),
    ):
        pass
    assert "--rootfs" in caught.value.hint
    assert list((tmp_path / "cache/views").iterdir()) == []


def test_what_is_logged_of_a_program_is_not_in_its_output(sandbox: Sandbox) -> None:
    with open(1, "w", closefd=False) as out, trace.programs(out, as_command=False):
        assert sh(sandbox, "echo so") == ["so", "0"]


HANDED_DOWN = """
import os, sys
from pathlib import Path
from pakman.buildroots.sandbox import Sandbox
with Sandbox(None, Path(sys.argv[1]), os.environ, confinement=sys.argv[2]) as root:
    sys.exit(root.call(["sh", "-c", "cat <&7"], user="root", env={"PATH": "/bin"}, on_line=print))
"""


@pytest.mark.parametrize("confinement", ["bubblewrap", "chroot"])
def test_what_is_open_here_is_closed_in_it(cache: Path, tmp_path: Path, confinement: Confinement) -> None:
    (tmp_path / "secret").write_text("secret-seen")
    script = f'exec 7<"{tmp_path}/secret"; cat <&7; exec 7<"{tmp_path}/secret"; exec "$@"'
    argv = ["sh", "-c", script, "sh", sys.executable, "-c", HANDED_DOWN, str(cache), confinement]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    # Once by the shell, which has it.
    assert (done.returncode, done.stdout.count("secret-seen")) == (1, 1), done


def test_a_root_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    missing = Sandbox(tmp_path / "none.tar.gz", tmp_path / "cache", os.environ)
    with pytest.raises(UsageError, match=r"none\.tar\.gz cannot be read: No such file or directory"):
        missing.__enter__()
    (tmp_path / "other.yml").write_bytes(b"x" * 100)
    other = Sandbox(tmp_path / "other.yml", tmp_path / "cache", os.environ)
    with pytest.raises(UsageError, match=r"^--rootfs .*other\.yml is no archive$"):
        other.__enter__()
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8b" + b"x" * 100)
    broken = Sandbox(tmp_path / "broken.tar.gz", tmp_path / "cache", os.environ)
    with pytest.raises(BuildError, match=r"tar .* failed"):
        broken.__enter__()


def test_a_root_that_was_only_half_unpacked_is_not_kept(tmp_path: Path) -> None:
    programs = {
        # Like the real one on a full disk: says so, and ends with status 0.
        "debugfs": 'mkdir "${2#rdump / }/etc"; echo 3 >"${2#rdump / }/etc/alpine-release"\n'
        "echo 'debugfs 1.47.0 (5-Feb-2023)\nrdump: No space left on device while writing file' >&2",
        "qemu-img": 'touch "$5"',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for _ in range(2):
        with pytest.raises(BuildError, match=r"debugfs .* failed: rdump: No space left on device while") as caught:
            rootfs.unpacked(None, tmp_path / "cache", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "make room" in caught.value.hint
    assert [path.suffix for path in (tmp_path / "cache/roots").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"file/cache/roots: Not a directory") as caught:
        rootfs.unpacked(None, tmp_path / "file/cache", os.environ)
    assert "--cache-dir" in caught.value.hint


def test_a_root_is_for_nobody_else_and_an_alpine_user_gets_through(tmp_path: Path) -> None:
    archive = tmp_path / "root.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        top = tarfile.TarInfo(".")
        top.type, top.mode, top.uid = tarfile.DIRTYPE, 0o700, 1000
        tar.addfile(top)
        entry = tarfile.TarInfo("./etc/alpine-release")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"3\n"))
    root = rootfs.unpacked(archive, tmp_path / "cache", os.environ)
    assert (root.stat().st_mode & 0o777, root.stat().st_uid) == (0o755, 0)
    assert root.parent.stat().st_mode & 0o777 == 0o700


def test_no_room_for_a_view_is_a_sentence(alpine_pristine: Path, tmp_path: Path) -> None:
    cache = private_cache(tmp_path / "cache", alpine_pristine)
    (cache / "views").write_text("in the way")
    with pytest.raises(BuildError, match=r"cache/views cannot be written: File exists") as caught:
        Sandbox(None, cache, os.environ).__enter__()
    assert "--cache-dir" in caught.value.hint


def test_chroot_is_entered_where_bubblewrap_is_refused(cache: Path, tmp_path: Path) -> None:
    refusing = tmp_path / "bin/bwrap"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    env = {"PATH": f"{refusing.parent}:{os.environ['PATH']}"}
    with Sandbox(None, cache, env) as sandbox:
        assert sandbox.confinement == "chroot"
        assert sh(sandbox, "id -un") == ["pakman-build", "0"]
    assert list((cache / "views").iterdir()) == []


def test_who_is_not_root_gets_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="the sandbox takes root") as caught:
        Sandbox(None, cache, os.environ).__enter__()
    assert "sudo" in caught.value.hint


def test_who_is_not_root_gets_a_user_namespace_or_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    env = {"PATH": str(tmp_path)}
    monkeypatch.setattr(command, "_SYSTEM_PATH", "/nowhere")
    program("unshare", "exit 0")
    with pytest.raises(UsageError, match="newuidmap is missing") as missing:
        unprivileged.as_root_of_a_namespace(["pakman"], env)
    assert "apt-get install uidmap" in missing.value.hint
    program("newuidmap", "exit 0")
    argv = unprivileged.as_root_of_a_namespace(["pakman", "build"], env)
    assert argv == [str(tmp_path / "unshare"), "--user", "--map-root-user", "--map-auto", "--", "pakman", "build"]
    program("unshare", "exit 1")
    with pytest.raises(UsageError, match="refuses user namespaces") as refused:
        unprivileged.as_root_of_a_namespace(["pakman"], env)
    assert "/etc/subuid" in refused.value.hint


def test_the_processes_of_a_container_are_no_processes_of_this_machines_builds() -> None:
    with subprocess.Popen(["unshare", "--pid", "--fork", "sleep", "31.5"], group=54_321, extra_groups=[]) as outside:
        try:
            deadline = time.monotonic() + 10
            while not processes("sleep", "31.5") and time.monotonic() < deadline:
                time.sleep(0.01)
            assert processes("sleep", "31.5")
            assert of_group(54_321) == [outside.pid]
        finally:
            outside.kill()
            for pid in processes("sleep", "31.5"):
                os.kill(pid, signal.SIGKILL)

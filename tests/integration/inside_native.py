"""The build root native: what it changes on its machine, and takes back; what it hides; when it is taken.

Run by test_native.py, inside the action's container: nowhere else may a test change the machine's users.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from pakman import generate, signing, stack
from pakman.apk import index
from pakman.apk.metadata import Metadata
from pakman.apk.read import read_package
from pakman.apk.write import write_package
from pakman.builders import embedded
from pakman.buildroots import choice, native
from pakman.buildroots.native import Native
from pakman.errors import BuildError, UsageError
from tests.building import PROJECT, manifest

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
HOME = Path("/home/pakman-build")


def machine() -> dict[str, str]:
    """Return what a build may have changed on this machine: every path's mode, owner and content."""
    found = {}
    for top in ("etc", "home", "tmp", "var", "usr", "pakman", "github", "run", "root", "srv"):
        for path in sorted([Path("/") / top, *(Path("/") / top).rglob("*")]):
            # The lock, apk's own books, Python's bytecode.
            outside = {"/run/pakman", "/usr/lib/apk", "/var/log", "__pycache__"}
            if outside & {str(path), *map(str, path.parents), *path.parts}:
                continue
            if os.path.lexists(path):
                status = path.lstat()
                content = digest(path, path.stat().st_ino, path.stat().st_ctime_ns) if path.is_file() else ""
                found[str(path)] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {content}"
    return found


@functools.cache
def digest(path: Path, *_: int) -> str:
    """Return the digest of a file's content; it is read again when its inode or the time of its last change is another.

    That time is the kernel's own: nothing sets it back.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sh(root: Native, script: str, *, user: str = "build") -> list[str]:
    lines: list[str] = []
    status = root.call(["sh", "-c", script], user="root" if user == "root" else "build", env=PATH, on_line=lines.append)
    return [*lines, str(status)]


def packed(name: str, content: bytes = b"x") -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A repository with a package that makes a user."""
    key = signing.generate("test.rsa.pub")
    (tmp_path / "tree/usr/share/tool").mkdir(parents=True)
    (tmp_path / "tree/usr/share/tool/file").write_text("x")
    arch = os.uname().machine
    folder = tmp_path / "repository" / arch
    folder.mkdir(parents=True)
    scripts = {".post-install": b"#!/bin/sh\nadduser -S -D -H tool\n"}
    package = write_package(
        folder / "tool-1-r0.apk", Metadata(pkgname="tool", pkgver="1-r0", arch=arch, origin="tool"),
        tmp_path / "tree", scripts=scripts, owners={}, groups={}, mtime=0, keys=[key],
    )  # fmt: skip
    index.write_index(folder / "APKINDEX.tar.gz", [package.path], [key], "tools")
    (tmp_path / "test.rsa.pub").write_bytes(key.public_pem)
    return tmp_path


def use(root: Native, tools: Path) -> None:
    """Leave traces of every kind."""
    public = (tools / "test.rsa.pub").read_bytes()
    root.copy_in(packed("test.rsa.pub", public), PurePosixPath("/etc/apk/keys"), user="root")
    assert sh(root, f"echo {tools}/repository >/etc/apk/repositories", user="root") == ["0"]
    root.add_packages(["tool"], lambda _: None)
    assert sh(root, "cat /usr/share/tool/file; id -un tool") == ["xtool", "0"]
    root.copy_in(packed("src/file"), PurePosixPath("/pakman/aport"), user="build")
    assert sh(root, "addgroup -S app; adduser -S -D -H -G app app", user="root") == ["0"]
    assert sh(root, "touch /tmp/mine /var/tmp/mine /dev/shm/mine ~pakman-build/mine; mkdir -p /tmp/a/b") == ["0"]
    assert HOME.is_dir()


def test_the_machine_is_as_before(tools: Path) -> None:
    before = machine()
    with Native(tools / "cache") as root:
        use(root, tools)
    # A key in a directory that was there is the builder's to take away, as it put it there.
    Path("/etc/apk/keys/test.rsa.pub").unlink()
    assert machine() == before
    assert not list(Path("/dev/shm").iterdir())
    assert subprocess.run(["apk", "info", "-e", "tool"], check=False, capture_output=True).returncode != 0
    with pytest.raises(ZeroDivisionError), Native(tools / "cache") as root:
        fail_in(root)
    assert machine() == before


def fail_in(root: Native) -> None:
    root.copy_in(packed("file"), PurePosixPath("/pakman"), user="build")
    raise ZeroDivisionError


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, "/project")
from pakman.buildroots.native import Native
from tests.integration.inside_native import use
with Native(Path(sys.argv[1]) / "cache", hidden=[Path("/srv")]) as root:
    use(root, Path(sys.argv[1]))
    print("used", flush=True)
    root.call(["sleep", "1000"], user="build", env={"PATH": "/bin"}, on_line=print)
"""


def test_what_a_killed_build_left_the_next_one_takes_away(tools: Path) -> None:
    before = machine()
    code = f"import sys; sys.path.append('/packages')\n{KILLED}"
    with subprocess.Popen([sys.executable, "-c", code, str(tools)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"used\n"
        run.send_signal(signal.SIGKILL)
    assert machine() != before
    with Native(tools / "cache") as root:
        assert sh(root, "test -e /tmp/mine || test -e /pakman || test -e /usr/share/tool || id app 2>/dev/null") == [
            "1"
        ]
    Path("/etc/apk/keys/test.rsa.pub").unlink()
    assert machine() == before


def test_nobody_but_root_gets_into_what_is_hidden(tmp_path: Path) -> None:
    place = Path("/srv/github")
    (place / "workspace").mkdir(parents=True)
    (place / "workspace/token").write_text("secret")
    with Native(tmp_path, hidden=[place, Path("/nowhere"), Path("/proc")]) as root:
        assert "secret" not in sh(root, f"cat {place}/workspace/token; ls {place}")
        assert sh(root, "ls /proc >/dev/null") == ["0"]  # mounted here, and not ours to change
        assert (place / "workspace/token").read_text() == "secret"
    assert place.stat().st_mode & 0o777 == 0o755
    (place / "workspace/token").unlink()
    (place / "workspace").rmdir()
    place.rmdir()


def test_a_second_build_waits(tmp_path: Path) -> None:
    said: list[str] = []
    ended: list[float] = []

    def second() -> None:
        with Native(tmp_path, on_notice=said.append) as root:
            ended.append(time.monotonic())
            assert sh(root, "true") == ["0"]

    with Native(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not ended
        left = time.monotonic()
    thread.join(30)
    assert said == ["another build runs on this machine: this one waits for its end"]
    assert ended[0] > left


def test_a_link_that_a_build_made_is_not_followed(tmp_path: Path) -> None:
    with Native(tmp_path) as root:
        assert sh(root, "ln -s /root ~pakman-build/out") == ["0"]
        for read in (root.copy_out, lambda path: root.tree(path).__enter__()):
            with pytest.raises(BuildError, match="is not the directory that it has to be"):
                read(PurePosixPath(HOME / "out"))


def test_programs_are_stripped_and_belong_to_whom_they_are_to(tmp_path: Path) -> None:
    strip = Path("/usr/local/bin/strip")
    # $1 is -o.
    strip.write_text('#!/bin/sh\nhead -c 1000 "$3" >"$2"\n')
    strip.chmod(0o755)
    (tmp_path / "source").mkdir()
    wanted = manifest("mkdir app; cp /bin/busybox app/tool; ln app/tool app/same; chmod 555 app/tool")
    generate.generate(wanted, PROJECT, tmp_path / "source", tmp_path / "aport")
    with Native(tmp_path / "cache") as root:
        (package,) = embedded.build(
            root, tmp_path / "aport", tmp_path, keys=[signing.generate("test.rsa.pub")], mtime=0, commit=None,
            threads=1, on_line=print, on_notice=print,
        )  # fmt: skip
    strip.unlink()
    files = {file.path: file for file in read_package(package.path)[1]}
    assert files[b"var/lib/shop/app/same"].size == 1000
    assert {
        (file.mode, file.owner, file.group) for path, file in files.items() if path.startswith(b"var/lib/shop/app/")
    } == {(0o555, b"shop", b"shop")}
    assert files[b"var/lib"].owner == b"root"


def test_a_build_that_failed_can_be_looked_at(tmp_path: Path) -> None:
    with Native(tmp_path / "cache") as root:
        root.copy_in(packed("file"), PurePosixPath("/pakman/aport"), user="build")
        kept = root.keep(PurePosixPath("/pakman"))
    assert (Path(kept) / "aport/file").read_bytes() == b"x"
    assert not Path("/pakman").exists()


def test_the_build_sees_no_secret_of_this_process(tmp_path: Path) -> None:
    with Native(tmp_path) as root:
        script = "cat /proc/[0-9]*/environ 2>/dev/null | grep -c PYTEST_DISABLE; ls /proc/1/fd /root 2>/dev/null"
        assert sh(root, script)[0] == "0"
        assert sh(root, "grep NoNewPrivs /proc/self/status", user="root") == ["NoNewPrivs:\t1", "0"]


def test_it_is_taken_where_the_container_is_the_stacks(tmp_path: Path) -> None:
    here = native.release()
    assert here is not None
    own = stack.find(choice.version(here))
    other = stack.find("3.18")
    assert own is not None
    assert other is not None

    def chosen(kind: choice.Kind, wanted: stack.Stack) -> object:
        return choice.build_root(
            kind, wanted, archive=None, cache=tmp_path, env={"DOCKER_HOST": "unix:///nowhere"},
            on_notice=print, on_warning=print,
        )  # fmt: skip

    assert isinstance(chosen("auto", own), Native)
    assert isinstance(chosen("native", own), Native)
    assert not isinstance(chosen("auto", other), Native)
    with pytest.raises(UsageError, match=f"on this machine, which is Alpine {here}; alpine/3.18 takes Alpine 3.18"):
        chosen("native", other)


def test_what_is_githubs_and_the_engines_is_hidden(tmp_path: Path) -> None:
    assert native.secret_places({"DOCKER_HOST": "tcp://127.0.0.1:1"}) == [Path("/github")]
    usual = Path("/var/run/docker.sock")
    for place in (tmp_path / "s", usual):
        with subprocess.Popen(
            [sys.executable, "-c", "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])", place]
        ) as binding:
            binding.wait()
    try:
        run = usual.resolve().parent
        assert native.secret_places({"DOCKER_HOST": f"unix://{tmp_path / 's'}"}) == [Path("/github"), tmp_path, run]
        assert native.secret_places({"DOCKER_HOST": "tcp://127.0.0.1:1"}) == [Path("/github"), run]
    finally:
        usual.unlink()

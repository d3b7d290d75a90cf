"""One contract for every build root: what goes in arrives as it is, what a build may do, what is left of it.

The action's container is itself the root `native`: there test_native.py runs this file once more.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pytest

from pakman import signing, stack
from pakman.apk import index
from pakman.apk.metadata import Metadata
from pakman.apk.write import write_package
from pakman.buildroots import TOP, BuildRoot, User, choice
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError
from tests.building import must_come, must_go, private_cache, processes
from tests.roots import NASTY, opened

pytestmark = [pytest.mark.alpine, pytest.mark.docker]

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
REPOSITORY = Path(__file__).parents[2]
NAP = f"31.{os.getpid()}5"
"""Seconds that no other test sleeps."""
IS_INSIDE = Path("/contract").is_dir()
"""Whether this is that container."""
KINDS = ("native",) if IS_INSIDE else ("bubblewrap", "chroot", "docker")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(kind: str, request: pytest.FixtureRequest) -> str:
    """The image for docker."""
    return str(request.getfixturevalue("alpine_image")) if kind == "docker" else ""


@pytest.fixture(scope="module", autouse=True)
def engine_at(kind: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the tests' engine be the one that is found."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "docker":
            patch.setenv("DOCKER_HOST", request.getfixturevalue("docker_engine").env["DOCKER_HOST"])
        yield


@pytest.fixture(scope="module")
def cache(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "cache"
    if kind in ("bubblewrap", "chroot"):
        return private_cache(folder, request.getfixturevalue("alpine_pristine"))
    return folder


@pytest.fixture(scope="module")
def root(kind: str, cache: Path, image: str) -> Iterator[BuildRoot]:
    """One of each kind, entered once for all tests here."""
    with opened(kind, cache, image) as entered:
        yield entered


@pytest.fixture(params=["root", "build"])
def user(request: pytest.FixtureRequest) -> User:
    return "root" if request.param == "root" else "build"


def output(
    root: BuildRoot, argv: Sequence[str], *, user: User = "build", env: Mapping[str, str] = PATH
) -> tuple[int, list[str]]:
    """Run a program; return its status and lines."""
    lines: list[str] = []
    return root.call(argv, user=user, env=env, on_line=lines.append), lines


def sh(root: BuildRoot, script: str, *, user: User = "build") -> list[str]:
    """Run a script; return what it wrote, its exit status last."""
    status, lines = output(root, ["sh", "-c", script], user=user)
    return [*lines, str(status)]


def containers(name: str) -> list[str]:
    """Return the containers of this name that are there, running or not; they are other tests' as well."""
    argv = ["docker", "ps", "--all", "--quiet", f"--filter=name={name}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    packed.seek(0)
    return packed


def member(name: str, *, mode: int = 0o644, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.linkname = mode, type_, link
    return entry


# First those that enter roots of their own: on this machine itself there is one at a time.


def test_the_next_build_sees_nothing_of_this_one(kind: str, cache: Path, image: str) -> None:
    for _ in range(2):
        with opened(kind, cache, image) as root:
            assert sh(root, "test -e /var/mine || test -e ~pakman-build/mine || test -e /tmp/mine") == ["1"]
            root.copy_in(archive((member("file"), b"x")), PurePosixPath("/var/mine"), user="build")
            assert sh(root, "touch ~pakman-build/mine /tmp/mine") == ["0"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_run_that_was_killed(kind: str, cache: Path, image: str, number: signal.Signals) -> None:
    seconds = f"33.{os.getpid()}{number.value}"
    argv = [sys.executable, "-m", "tests.roots", kind, str(cache), image, seconds]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        started, _, name = run.stdout.readline().decode().strip().partition(" ")
        assert started == "started"
        must_come(lambda: processes("sleep", seconds), 3)
        assert kind != "docker" or containers(name)
        run.send_signal(number)
    must_go(lambda: processes("sleep", seconds))
    if kind == "docker":
        must_go(lambda: containers(name))


def test_arguments_arrive_as_they_are(root: BuildRoot, user: User) -> None:
    status, lines = output(root, ["sh", "-c", r'for a; do printf "%s\0" "$a"; done', "sh", *NASTY], user=user)
    assert status == 0
    # A line's end is where lines are cut, and what is not UTF-8 is replaced on the way back.
    expected = "".join(f"{word}\0" for word in NASTY).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert "\n".join(lines) == expected


def test_bytes_that_are_no_text_arrive_as_they_are(root: BuildRoot, user: User) -> None:
    assert sh(root, "printf %s '\udcff\udc801' | od -An -tx1", user=user) == [" ff 80 31", "0"]


def test_the_environment_is_what_was_given(root: BuildRoot, user: User) -> None:
    values = {f"NASTY_{number}": value for number, value in enumerate(NASTY)}
    status, lines = output(root, ["sh", "-c", "env -0"], user=user, env={**PATH, **values})
    assert status == 0
    text = "".join(f"{line}\n" for line in lines)
    found = dict(pair.split("=", 1) for pair in text.split("\0")[:-1])
    expected = {
        key: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for key, value in values.items()
    }
    assert {key: value for key, value in found.items() if key not in ("PWD", "SHLVL", "_", "OLDPWD")} == {
        **PATH,
        **expected,
    }


def test_output_may_be_anything(root: BuildRoot, user: User) -> None:
    script = r"printf 'one\r\n\n\377\376\000two'; printf 'err\n' >&2; printf 'no end'"
    assert output(root, ["sh", "-c", script], user=user) == (0, ["one", "", "��\0twoerr", "no end"])


def test_a_line_without_end_comes_in_parts(root: BuildRoot) -> None:
    status, lines = output(root, ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"])
    assert status == 0
    assert "".join(lines) == "x" * 300_000
    assert len(lines) > 1


def test_lines_come_while_the_program_runs(root: BuildRoot) -> None:
    times: list[float] = []
    script = "echo one; sleep 0.7; echo two"
    root.call(["sh", "-c", script], user="build", env=PATH, on_line=lambda _: times.append(time.monotonic()))
    assert times[1] - times[0] > 0.5


@pytest.mark.parametrize("status", [0, 77, 255])
def test_the_exit_status_comes_back(root: BuildRoot, user: User, status: int) -> None:
    assert output(root, ["sh", "-c", f"exit {status}"], user=user) == (status, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_death_by_a_signal_comes_back(root: BuildRoot, user: User, number: signal.Signals) -> None:
    status, _ = output(root, ["sh", "-c", f"kill -{number.value} $$"], user=user)
    assert status == 128 + number


def test_a_missing_program_is_status_127(root: BuildRoot, user: User) -> None:
    status, lines = output(root, ["no such program"], user=user)
    assert (status, "no such program" in lines[0]) == (127, True)


def test_what_stays_in_the_background_ends_with_the_program(root: BuildRoot, user: User) -> None:
    began = time.monotonic()
    # With its stdout, without, and out of its session.
    script = f"sleep {NAP} & sleep {NAP} >/dev/null 2>&1 & echo; setsid sleep {NAP} >/dev/null 2>&1 &"
    status, lines = output(root, ["sh", "-c", script], user=user)
    assert (status, len(lines)) == (0, 1)
    assert time.monotonic() - began < 5
    must_go(lambda: processes("sleep", NAP))


def test_leaving_early_ends_the_program(root: BuildRoot, user: User) -> None:
    class Interrupted(BaseException):
        pass

    def on_line(_: str) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        root.call(["sh", "-c", f"echo started; setsid sleep {NAP}"], user=user, env=PATH, on_line=on_line)
    must_go(lambda: processes("sleep", NAP))
    assert sh(root, "echo still here", user=user) == ["still here", "0"]


def test_the_directory_is_the_one_that_was_given(root: BuildRoot, user: User) -> None:
    for cwd in (TOP, PurePosixPath("/etc/apk")):
        lines: list[str] = []
        root.call(["sh", "-c", 'echo "$PWD"; pwd -P'], user=user, env=PATH, cwd=cwd, on_line=lines.append)
        assert lines == [str(cwd), str(cwd)]


def test_the_umask_is_always_the_same(root: BuildRoot, user: User) -> None:
    before = os.umask(0o077)
    try:
        assert sh(root, "umask", user=user) == ["0022", "0"]
    finally:
        os.umask(before)


def test_knows_its_release_and_architecture(root: BuildRoot) -> None:
    assert sh(root, "cat /etc/alpine-release; apk --print-arch") == [root.release, root.arch, "0"]
    if isinstance(root, Sandbox):
        # What the README and a first manifest name, so that any machine builds it.
        assert f"alpine/{choice.version(root.release)}" == stack.EVERYWHERE
    assert sh(root, "id -u; id -g") == [str(root.build_user_id), str(root.build_group_id), "0"]


def test_a_build_is_nobody_special(root: BuildRoot) -> None:
    assert sh(root, "id -un; id -Gn; touch /etc/x /aport 2>/dev/null || echo refused") == [
        "pakman-build", "pakman-build", "refused", "0",
    ]  # fmt: skip
    assert sh(root, "cd ~pakman-build && touch x && pwd && touch /tmp/y /dev/shm/z && echo x >/dev/null")[-1] == "0"


def test_nobody_can_mount_or_change_the_machine(root: BuildRoot, user: User) -> None:
    for attempt in ("mount -t tmpfs none /mnt", "mknod /tmp/disk b 8 0", "hostname x"):
        assert sh(root, f"{attempt} 2>/dev/null", user=user)[-1] != "0", attempt


def test_nobody_can_change_the_kernels_settings(root: BuildRoot, user: User) -> None:
    # Root may by its number alone; core_pattern is the name of a program that the kernel starts outside of the root.
    for name in ("sys/kernel/core_pattern", "sys/vm/drop_caches", "sysrq-trigger", "irq/default_smp_affinity"):
        assert sh(root, f"[ -e /proc/{name} ] && (: >>/proc/{name}) 2>/dev/null", user=user)[-1] != "0", name


def test_setuid_programs_give_nothing(root: BuildRoot) -> None:
    # busybox drops what it is not asked to keep; apk does not.
    script = (
        "cp /sbin/apk /usr/bin/setuid-apk; chmod 4755 /usr/bin/setuid-apk; cd /var; echo x >secret; chmod 600 secret"
    )
    assert sh(root, script, user="root") == ["0"]
    assert "Permission denied" in "".join(sh(root, "setuid-apk verify /var/secret"))
    assert sh(root, "rm /usr/bin/setuid-apk /var/secret", user="root") == ["0"]


def test_root_in_it_may_lay_out_a_package(root: BuildRoot) -> None:
    script = "cd /var && mkdir t && touch t/f && chown pakman-build t/f && chmod 4755 t/f && stat -c '%U %a' t/f"
    assert sh(root, f"{script}; rm -r t", user="root") == ["pakman-build 4755", "0"]


def test_files_go_in_and_out_as_they_are(root: BuildRoot, user: User) -> None:
    directory = PurePosixPath(f"/var/in-{user}")
    content = bytes(range(256)) * 5000
    tar = archive(
        (member("a/b c", mode=0o755), content),
        (member("a/new\nline", mode=0o600), b""),
        (member("a/n\udcffme"), b"x"),
        (member("a/link", type_=tarfile.SYMTYPE, link="/etc/passwd"), b""),
        (member("a/hard", type_=tarfile.LNKTYPE, link="a/b c"), b""),
        (member("a/" + "deep/" * 40 + "file"), b"y"),
    )
    root.copy_in(tar, directory, user=user)
    owner = "pakman-build" if user == "build" else "root"
    assert sh(root, f"stat -c '%U %a %h' '{directory}/a/b c'; stat -c %U {directory}", user="root") == [
        f"{owner} 755 2", owner, "0",
    ]  # fmt: skip
    with root.copy_out(directory) as stream, tarfile.open(fileobj=stream) as out:
        members = {entry.name.removeprefix("./"): entry for entry in out}
        whole = out.extractfile(members["a/b c"] if members["a/b c"].isreg() else members["a/hard"])
        assert whole is not None
        assert whole.read() == content
    assert members["a/new\nline"].mode == 0o600
    assert members["a/link"].linkname == "/etc/passwd"
    assert {members["a/b c"].islnk(), members["a/hard"].islnk()} == {True, False}
    assert {"a/n\udcffme", "a/" + "deep/" * 40 + "file"} <= set(members)


def test_what_is_no_tar_cannot_go_in(root: BuildRoot) -> None:
    with pytest.raises(BuildError, match="/var/broken cannot be filled in the build root: tar"):
        root.copy_in(io.BytesIO(b"x" * 1000), PurePosixPath("/var/broken"), user="build")
    with pytest.raises(BuildError, match="/nowhere cannot be read from the build root"):
        root.copy_out(PurePosixPath("/nowhere"))


def test_a_tree_is_as_it_is_in_the_root(root: BuildRoot) -> None:
    script = r"""
        mkdir -p /var/tree/shop/dir && cd /var/tree/shop
        echo hello >file && ln file dir/hard && ln -s /etc/passwd link && mkfifo fifo
        printf x >"$(printf 'new\nline')"; printf x >"$(printf 'n\377me')"
        chown pakman-build:pakman-build file; chown -h 123:456 link; chmod 4750 file; chmod 1777 dir
    """
    assert sh(root, script, user="root") == ["0"]
    with root.tree(PurePosixPath("/var/tree/shop")) as tree:
        file = (tree / "file").lstat()
        assert (file.st_uid, file.st_gid) == (root.build_user_id, root.build_group_id)
        assert (file.st_mode & 0o7777, file.st_nlink) == (0o4750, 2)
        assert (tree / "dir/hard").read_text() == "hello\n"
        assert (tree / "dir").stat().st_mode & 0o7777 == 0o1777
        assert ((tree / "link").readlink(), (tree / "link").lstat().st_uid) == (Path("/etc/passwd"), 123)
        assert (tree / "fifo").is_fifo()
        assert {os.fsencode(path.name) for path in tree.iterdir()} >= {b"new\nline", b"n\xffme"}
    assert sh(root, "rm -r /var/tree", user="root") == ["0"]


def test_a_link_does_not_lead_out(root: BuildRoot, tmp_path: Path) -> None:
    sh(root, f"mkdir /var/pkg; ln -s {tmp_path} /var/pkg/shop; ln -s / /var/link; touch /var/file", user="root")
    with root.tree(PurePosixPath("/var/pkg")) as tree:
        assert [path.name for path in tree.iterdir()] == ["shop"]
    for path in ("/var/pkg/shop", "/var/link/etc", "/var/file", "/var/nothing"):
        refused = pytest.raises(BuildError, match="is not the directory that it has to be")
        with refused, root.tree(PurePosixPath(path)):
            pass
    assert sh(root, "rm -r /var/pkg /var/link /var/file", user="root") == ["0"]


def test_packages_that_are_there_need_no_network(root: BuildRoot) -> None:
    lines: list[str] = []
    root.add_packages(["busybox>1"], lines.append)
    assert lines[-1].startswith("OK:")
    assert not any("WARNING" in line for line in lines)
    root.add_packages([], lines.append)


@contextlib.contextmanager
def repositories(root: BuildRoot, text: str) -> Iterator[None]:
    """Have other lines in the root's /etc/apk/repositories."""
    file = "/etc/apk/repositories"
    assert sh(root, f"cp -p {file} {file}.before; printf '{text}' >{file}", user="root") == ["0"]
    try:
        yield
    finally:
        assert sh(root, f"mv {file}.before {file}", user="root") == ["0"]


def test_a_package_with_scripts_is_installed(root: BuildRoot, tmp_path: Path) -> None:
    key = signing.generate("test.rsa.pub")
    (tmp_path / "tree/usr/share/tool").mkdir(parents=True)
    (tmp_path / "tree/usr/share/tool/file").write_text("x")
    script = b"#!/bin/sh\nset -e\naddgroup -S tool\nadduser -S -D -H -G tool tool\nchown tool:tool /usr/share/tool\n"
    package = write_package(
        tmp_path / "tool-1-r0.apk", Metadata(pkgname="tool", pkgver="1-r0", arch=root.arch, origin="tool"),
        tmp_path / "tree", scripts={".post-install": script}, owners={}, groups={}, mtime=0, keys=[key],
    )  # fmt: skip
    index.write_index(tmp_path / "APKINDEX.tar.gz", [package.path], [key], "tools")
    files = [
        (member(f"repository/{root.arch}/{path.name}"), path.read_bytes())
        for path in (package.path, tmp_path / "APKINDEX.tar.gz")
    ]
    root.copy_in(archive(*files), PurePosixPath("/var/tools"), user="root")
    root.copy_in(archive((member("test.rsa.pub"), key.public_pem)), PurePosixPath("/etc/apk/keys"), user="root")
    with repositories(root, "/var/tools/repository\\n"):
        root.add_packages(["tool"], print)
    assert sh(root, "stat -c %U:%G /usr/share/tool; cat /usr/share/tool/file") == ["tool:tool", "x", "0"]


def test_packages_that_cannot_be_had_are_named(root: BuildRoot) -> None:
    # A directory that has no index, and no directory.
    with repositories(root, "# nothing\\n/var/no-repository\\n"), pytest.raises(BuildError) as unreachable:
        root.add_packages(["busybox", "no-such-package"], lambda _: None)
    with repositories(root, ""), pytest.raises(BuildError) as missing:
        root.add_packages(["no-such-package", "busybox>999"], lambda _: None)
    assert unreachable.value.message.startswith("the build needs no-such-package, which the Alpine root does not have")
    assert "/var/no-repository" in unreachable.value.message
    assert "no-such-package, busybox>999 (there is busybox-" in missing.value.message
    assert "dependencies.build" in missing.value.hint

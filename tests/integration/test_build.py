"""The build, from manifest and sources to a repository that apk installs from."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pakman import __version__, generate, signing
from pakman.builders import embedded
from pakman.builders.driver import compiling
from pakman.buildroots import choice
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError, UsageError
from pakman.manifest import Dependencies, Manifest, Run, Service
from pakman.signing import SigningKey
from tests.building import PROJECT, Builds, contents, manifest, must_go, private_cache, processes
from tests.integration.conftest import AlpineRoot
from tests.stores import pem

pytestmark = pytest.mark.alpine

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA-seen",
    "AWS_SECRET_ACCESS_KEY": "secret-seen-1",
    "ACTIONS_RUNTIME_TOKEN": "secret-seen-3",
    "HOME": "/root/secret-seen-4",
}
ALLOWED = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TERM", "LANG", "TZ", "CI", "CARCH", "CHOST"),
    *("SOURCE_DATE_EPOCH", "JOBS", "MAKEFLAGS", "GIT_CEILING_DIRECTORIES"),
    *compiling(threads=1),
    # Where downloads go.
    *("BUNDLE_USER_CACHE", "BUNDLE_GLOBAL_GEM_CACHE", "COMPOSER_CACHE_DIR", "GOCACHE", "GOMODCACHE", "CARGO_HOME"),
    # The recipe's own, and those that every shell sets.
    *("srcdir", "builddir", "startdir", "pkgname", "pkgver", "pkgrel", "PAKMAN_COMMIT"),
    *("PWD", "OLDPWD", "SHLVL"),
}


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return signing.generate("acme-shop.rsa.pub")


@pytest.fixture
def builds(alpine_pristine: Path, tmp_path: Path, key: SigningKey) -> Builds:
    source = tmp_path / "source"
    (source / "app").mkdir(parents=True)
    (source / "app/page.html").write_text("hello")
    return Builds(source, private_cache(tmp_path / "cache", alpine_pristine), key)


@pytest.fixture
def in_a_chroot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have builds run where bubblewrap is refused."""
    monkeypatch.setattr(choice, "Sandbox", functools.partial(Sandbox, confinement="chroot"))


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def cli(builds: Builds, output: Path, *, script: str) -> list[str]:
    """Return the command that builds what YAML says, for a process of its own."""
    yaml = f"""
stack: alpine/3.23
build:
  command: {json.dumps(script)}
  destinations: [app]
"""
    (builds.source / "instellar.yml").write_text(yaml)
    return [
        sys.executable, "-m", "pakman", "build", str(builds.source / "instellar.yml"), "--output", str(output),
        "--project", "acme/shop", "--package-version", "1.0.0",
        "--build-root", "sandbox", "--builder", "embedded", "--cache-dir", str(builds.cache),
    ]  # fmt: skip


def test_apk_installs_what_was_built(builds: Builds, alpine_root: AlpineRoot, tmp_path: Path) -> None:
    described = manifest(
        'echo "$pkgver for $CUSTOMER" >app/version',
        description='a "b" $(touch /x) `touch /y`',
        run=Run(name="shop", services=(Service(name="web", binary="serve"),)),
    )
    described = replace(described, build=replace(described.build, environment={"CUSTOMER": "you & $me"}))
    made = builds.run(described, tmp_path / "out")
    assert files_below(tmp_path / "out") == {
        "acme-shop.rsa.pub", f"{made.arch}/APKINDEX.tar.gz", f"{made.arch}/packages.json",
        f"{made.arch}/shop-1.0.0-r0.apk", f"{made.arch}/shop-openrc-1.0.0-r0.apk",
    }  # fmt: skip
    assert [package.name for package in made.packages] == ["shop", "shop-openrc"]
    written = json.loads(made.manifest_file.read_text())
    assert written == json.loads(made.to_json())
    assert written["builder"] == {"name": "embedded", "pakman": __version__}
    shutil.copytree(tmp_path / "out", alpine_root.path / "repository")
    shutil.copy(made.public_key, alpine_root.path / "etc/apk/keys")
    alpine_root.sh("apk verify /repository/*/*.apk")
    alpine_root.sh("apk add --no-network --repository /repository shop")
    assert alpine_root.sh("cat /var/lib/shop/app/version") == "1.0.0 for you & $me\n"
    assert alpine_root.sh("stat -c %U:%G /var/lib/shop/app/page.html") == "shop:shop\n"
    assert 'a "b" $(touch /x) `touch /y`' in alpine_root.sh("apk info -d shop")
    assert alpine_root.sh("ls /x /y /etc/init.d/shop 2>/dev/null || true") == "/etc/init.d/shop\n"


SEEN = """
env -0 >app/environment
cat /proc/[0-9]*/environ >app/environments 2>/dev/null || true
grep -rlE 'secret-seen|PRIVATE KEY' --exclude-dir=proc --exclude-dir=dev / >app/files 2>/dev/null || true
id -un >app/user
{ echo x >/etc/x; } 2>/dev/null && exit 1
ls -A / >app/top
"""


@pytest.mark.parametrize("confinement", ["bubblewrap", "chroot"])
def test_a_build_sees_its_environment_and_no_secret(builds: Builds, tmp_path: Path, confinement: str) -> None:
    # A process of its own: what it was started with is in its /proc/PID/environ.
    subprocess.run(["openssl", "genrsa", "-out", str(tmp_path / "key"), "2048"], check=True, capture_output=True)
    env = {"PATH": os.environ["PATH"], **SECRETS, "PAKMAN_SIGNING_KEY": (tmp_path / "key").read_text()}
    argv = cli(builds, tmp_path / "out", script=SEEN)
    code = f"""
import functools, sys
from pakman import cli
from pakman.buildroots import choice
from pakman.buildroots.sandbox import Sandbox
choice.Sandbox = functools.partial(Sandbox, confinement={confinement!r})
sys.exit(cli.main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code, *argv[3:]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("runs in a chroot" in done.stderr) == (confinement == "chroot")
    (package,) = (tmp_path / "out").glob("*/shop-1.0.0-r0.apk")
    inside = {name.removeprefix("var/lib/shop/app/"): content for name, content in contents(package).items()}
    environment = dict(pair.split("=", 1) for pair in (inside["environment"] or b"").decode().split("\0")[:-1])
    assert set(environment) - {"_"} == ALLOWED
    assert environment["HOME"] == "/home/pakman-build"
    assert environment["SOURCE_DATE_EPOCH"] == "0"
    for secret in (b"secret-seen", b"PRIVATE KEY", b"AKIA"):
        assert secret not in (inside["environments"] or b"")
    # Only the script itself, which says what it looks for; and programs that know what a key looks like.
    found = {Path(line).name for line in (inside["files"] or b"").decode().splitlines()}
    assert {name for name in found if ".so" not in name} <= {"shop.build", "instellar.yml", "shop-1.0.0.tar"}
    assert inside["user"] == b"pakman-build\n"
    assert b"work" not in (inside["top"] or b"").split()


def test_a_signing_key_among_the_sources_is_not_seen(builds: Builds, tmp_path: Path) -> None:
    for name in (
        "acme-Shop.rsa",
        "acme-Shop-5f3a9c01.rsa",
        "acme-Shop-old.rsa",
        "acme-shop.rsa",
        "other.pem",
        "kept.pem",
    ):
        (builds.source / name).write_text("private")
    # The key itself, under a name that says nothing, and one of another project's.
    (builds.source / "app/deploy.txt").write_bytes(pem(builds.key))
    (builds.source / "app/local-shop.rsa").write_bytes(pem(signing.generate("local-shop.rsa.pub")))
    made = builds.run(manifest("", "*"), tmp_path / "out", key_files=[builds.source / "other.pem"])
    assert {name for name in contents(made.packages[0].path) if name.startswith("var/lib/shop/")} == {
        "var/lib/shop/app", "var/lib/shop/app/page.html", "var/lib/shop/kept.pem"
    }  # fmt: skip


def test_a_dot_in_a_name_is_a_dot(builds: Builds, tmp_path: Path) -> None:
    # Every Alpine root has www-data.
    made = builds.run(manifest(run=Run(name="www.data")), tmp_path / "out")
    with tarfile.open(
        fileobj=io.BytesIO(gzip.decompress(made.packages[0].path.read_bytes())), ignore_zeros=True
    ) as tar:
        assert tar.getmember("var/lib/www.data/app").uname == "www.data"


def test_the_same_commit_gives_the_same_bytes(builds: Builds, tmp_path: Path) -> None:
    wanted = manifest("date >/dev/null; mkdir -p app/x; touch app/x/{b,a}; echo $RANDOM >/dev/null", "app", "[ab]*")
    (builds.source / "bin").symlink_to("app")
    other = tmp_path / "elsewhere" / "checkout"
    first = builds.run(wanted, tmp_path / "one")
    time.sleep(1.1)
    before = os.umask(0o077)
    try:
        shutil.copytree(builds.source, other, symlinks=True, copy_function=shutil.copy)
        second = replace(builds, source=other).run(wanted, other / "packages")
        # Once more: what the second build left in its output is not part of the sources.
        third = replace(builds, source=other).run(wanted, other / "packages")
    finally:
        os.umask(before)
    for package in first.packages:
        for repository in (second, third):
            assert (repository.index.parent / package.path.name).read_bytes() == package.path.read_bytes()
    assert first.index.read_bytes() == third.index.read_bytes()


@pytest.mark.parametrize(
    ("script", "how", "last"),
    [
        ("echo one; echo two >&2; exit 7", "exit status 7", ["its last lines:", "  one", "  two"]),
        ("seq 1 50\nfalse\necho not reached", "exit status 1", ["its last lines:", *(f"  {n}" for n in range(31, 51))]),
        ("kill -SEGV $$", "killed by SIGSEGV", []),
        ("printf %0600d 0; exit 1", "exit status 1", ["its last lines:", f"  {'0' * 500} …"]),
        ("no-such-tool --x", "exit status 127", []),
        ("printf 'never closed", "exit status 2", []),
    ],
)
def test_a_failing_command_is_one_error(builds: Builds, tmp_path: Path, script: str, how: str, last: list[str]) -> None:
    with pytest.raises(BuildError) as caught:
        builds.run(manifest(script), tmp_path / "out")
    first = script.splitlines()[0]
    assert caught.value.message == f"the build command `{first}{' …' if chr(10) in script else ''}` failed: {how}"
    assert caught.value.hint.splitlines()[: len(last)] == last
    assert files_below(tmp_path / "out") == set()
    assert list((builds.cache / "views").iterdir()) == []


def test_output_is_live(builds: Builds, tmp_path: Path) -> None:
    builds.run(manifest("echo first; echo second >&2; printf third"), tmp_path / "out")
    lines = builds.lines
    assert lines[lines.index("first") : lines.index("first") + 3] == ["first", "second", "third"]


def test_keep_leaves_the_tree_of_a_failed_build(builds: Builds, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        builds.run(manifest("echo half >app/made; exit 1"), tmp_path / "out", keep=True)
    kept = Path(caught.value.hint.rpartition("the build tree is kept in ")[2])
    assert (kept / "work/src/shop-1.0.0/app/made").read_text() == "half\n"
    assert list((builds.cache / "views").iterdir()) == []


REFUSED: list[tuple[Manifest, str, str]] = [
    (
        manifest("echo so\nbundle install"),
        r"the build command `echo so …` failed: exit status 127",
        "the build root has no bundle: add the Alpine package that has it to dependencies.build\nits last lines:\n  so",
    ),
    (
        manifest("printf '#!/bin/bash\\ntrue\\n' >app/x; chmod +x app/x; app/x"),
        "failed: exit status 127",
        "app/x is not there; or it is, and what its first line names is not: add that one's package, e.g. bash, to dep",
    ),
    (
        manifest("printf '#!/usr/bin/env python3\\n' >app/x; chmod +x app/x; app/x"),
        "failed: exit status 127",
        "the build root has no python3: ",
    ),
    (manifest("", "nothing"), "^build.destinations: 'nothing' matches nothing", "name what build.command leaves"),
    (manifest(package="exit 3"), r"package\(\) failed: exit status 3", "it wrote nothing"),
    (manifest(package='rm -rf "$pkgdir"; ln -s / "$pkgdir"'), "/pakman/pkg/shop in the build root is not", ""),
    (manifest(package='rm -rf "${pkgdir:?}"/*'), r"shop would be empty: package\(\) put nothing", "destinations"),
    (manifest(package='mkdir -p "$pkgdir/opt/x"'), "shop is not what Alpine takes.*: /opt/x", "/var/lib/NAME"),
    (
        manifest(dependencies=Dependencies(trace=True)),
        "cannot trace which libraries a program needs",
        "dependencies.runtime",
    ),
    (replace(manifest(), stack="alpine/3.22"), "stack is alpine/3.22, but the build root is Alpine 3.23", "--rootfs"),
    (replace(manifest(), stack="alpine/edge"), "stack is alpine/edge, but the build root", "`stack: alpine/3.23`"),
    (replace(manifest(), stack=None), "the manifest names no stack, alpine/3.24 is meant, but", "`stack: alpine/3.23`"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message", "hint"), REFUSED, ids=[case[1] for case in REFUSED])
def test_what_cannot_become_a_package(builds: Builds, tmp_path: Path, wrong: Manifest, message: str, hint: str) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        builds.run(wrong, tmp_path / "out")
    assert hint in caught.value.hint
    assert files_below(tmp_path / "out") == set()


def test_a_package_that_is_not_there_is_named(builds: Builds, tmp_path: Path) -> None:
    wanted = manifest(dependencies=Dependencies(build=("curl", "no-such-package")))
    with pytest.raises(BuildError, match="the build needs no-such-package"):
        builds.run(wanted, tmp_path / "out")


def test_another_architecture_is_not_built_for(builds: Builds, tmp_path: Path) -> None:
    made = builds.run(manifest(architectures=("s390x",)), tmp_path / "out")
    assert made.packages == ()
    assert files_below(tmp_path / "out") == set()
    assert any("nothing to build on" in line for line in builds.lines)


def test_the_output_is_not_the_application(builds: Builds) -> None:
    with pytest.raises(UsageError, match="holds the application") as caught:
        builds.run(manifest(), builds.source / "app" / "..")
    assert "--output packages" in caught.value.hint


@pytest.mark.parametrize("above", [".", "..", "app/.."])
def test_the_cache_does_not_hold_the_application(builds: Builds, tmp_path: Path, above: str) -> None:
    with pytest.raises(UsageError, match="holds the application") as caught:
        builds.run(manifest(), tmp_path / "out", cache=builds.source / above)
    assert "--cache-dir .pakman-cache" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_the_output_is_not_git_s(builds: Builds, tmp_path: Path) -> None:
    (builds.source / ".git/hooks").mkdir(parents=True)
    (tmp_path / "link").symlink_to(builds.source / ".git")
    for output in (builds.source / ".git/hooks", tmp_path / "link/new"):
        with pytest.raises(UsageError, match=f"^{output} is in git's own folder") as caught:
            builds.run(manifest(), output)
        assert "--output packages" in caught.value.hint
    assert files_below(builds.source / ".git") == set()


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_in_the_output_is_refused_before_the_build(builds: Builds, tmp_path: Path, target: str) -> None:
    (tmp_path / "out/elsewhere").mkdir(parents=True)
    link = tmp_path / "out" / platform.machine()
    link.symlink_to(target)
    with pytest.raises(UsageError, match=f"^{link} is a link, and packages go into that directory") as caught:
        builds.run(manifest("echo building"), tmp_path / "out")
    assert "take it away" in caught.value.hint
    assert "building" not in builds.lines
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"elsewhere", link.name}


def test_a_second_version_takes_the_place_of_the_first(builds: Builds, tmp_path: Path) -> None:
    first = builds.run(manifest(), tmp_path / "out")
    (tmp_path / "out" / first.arch / "mine.apk").touch()
    second = builds.run(manifest(), tmp_path / "out", project=replace(PROJECT, version="1.1.0"))
    assert files_below(tmp_path / "out" / first.arch) == {
        "APKINDEX.tar.gz", "packages.json", "mine.apk", "shop-1.1.0-r0.apk"
    }  # fmt: skip
    assert second.packages[0].path == tmp_path / "out" / first.arch / "shop-1.1.0-r0.apk"


def test_a_daemon_that_a_build_starts_ends_with_it(builds: Builds, tmp_path: Path, in_a_chroot: None) -> None:
    nap = f"34.{os.getpid()}5"
    began = time.monotonic()
    builds.run(manifest(f"setsid sleep {nap} & echo started"), tmp_path / "out")
    assert processes("sleep", nap) == []
    assert time.monotonic() - began < 20
    assert "notice: bubblewrap is refused on this machine: the build runs in a chroot" in builds.lines


def test_two_builds_at_once_into_one_directory(builds: Builds, tmp_path: Path) -> None:
    def run(version: str) -> str:
        script = f"touch app/{version}; sleep 0.5; ls app"
        made = builds.run(manifest(script), tmp_path / "out", project=replace(PROJECT, version=version))
        return made.packages[0].version

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ["1.0.0", "2.0.0"])) == ["1.0.0-r0", "2.0.0-r0"]
    (directory,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    named = json.loads((directory / "packages.json").read_text())["packages"]
    assert files_below(directory) == {"APKINDEX.tar.gz", "packages.json", Path(named[0]["file"]).name}
    assert set(contents(directory / "APKINDEX.tar.gz")) >= {"DESCRIPTION", "APKINDEX"}
    seen = contents(directory / Path(named[0]["file"]).name)
    own, other = ("1.0.0", "2.0.0") if named[0]["version"] == "1.0.0-r0" else ("2.0.0", "1.0.0")
    assert f"var/lib/shop/app/{own}" in seen
    assert f"var/lib/shop/app/{other}" not in seen


def test_a_build_that_was_killed_leaves_nothing_behind_for_the_next(builds: Builds, tmp_path: Path) -> None:
    nap = f"35.{os.getpid()}5"
    argv = cli(builds, tmp_path / "out", script=f"echo started; sleep {nap}")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        assert any("started" in line for line in run.stderr)
        run.send_signal(signal.SIGKILL)
    must_go(lambda: processes("sleep", nap))
    assert len(list((builds.cache / "views").iterdir())) == 1
    assert any(path.name.startswith(".building-") for path in (tmp_path / "out").iterdir())
    made = builds.run(manifest(), tmp_path / "out")
    assert list((builds.cache / "views").iterdir()) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {made.arch, made.key_name}


def test_ctrl_c_ends_a_build(builds: Builds, tmp_path: Path) -> None:
    nap = f"36.{os.getpid()}5"
    argv = cli(builds, tmp_path / "out", script=f"echo started; sleep {nap}")
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            assert any("started" in line for line in run.stderr)
            run.send_signal(number)
            rest = run.stderr.read()
        assert (run.returncode, "Traceback" in rest) == (status, False)
        must_go(lambda: processes("sleep", nap))
        assert files_below(tmp_path / "out") == set()
        assert list((builds.cache / "views").iterdir()) == []


MOUNTS = {
    "read-only": "mount --bind '{out}' '{out}' && mount -o remount,bind,ro '{out}'",
    "full": "mount -t tmpfs -o size=512k none '{out}'",
    "full at the end": "mount -t tmpfs -o size=3m none '{out}'",
}


@pytest.mark.parametrize("what", MOUNTS)
def test_an_output_that_cannot_be_written_is_a_sentence(builds: Builds, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    argv = cli(builds, out, script="echo building; head -c 4000000 /dev/urandom >app/big")
    # In a mount namespace of its own: no other test sees it, and it goes with its process.
    mount = (
        f'{MOUNTS[what].format(out=out)} || exit 99; "$@"; status=$?; echo "left:" >&2; ls -A "{out}" >&2; exit $status'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", *argv], capture_output=True, text=True, check=False
    )
    reason = {"read-only": "Read-only file system"}.get(what, "No space left on device")
    errors = [line for line in done.stderr.splitlines() if line.startswith("pakman: error:")]
    assert done.returncode == 4, done.stderr
    assert len(errors) == 1
    assert str(out) in errors[0]
    assert reason in errors[0]
    # Known before the long build, where it can be; and nothing half-written is left.
    assert ("building" in done.stderr) == (what == "full at the end")
    assert done.stderr.endswith("left:\n")


def test_an_output_that_is_a_file_is_a_sentence(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="out is a file, and the repository is a directory"):
        builds.run(manifest(), tmp_path / "out")


@pytest.mark.parametrize("has_strip", [True, False])
def test_programs_are_stripped_where_that_is_possible(builds: Builds, tmp_path: Path, has_strip: bool) -> None:
    wanted = manifest(
        "cp /bin/busybox app/tool; ln app/tool app/same; chmod 750 app/tool; echo '#!/bin/sh' >app/script"
    )
    generate.generate(wanted, PROJECT, builds.source, tmp_path / "aport")
    said: list[str] = []
    with Sandbox(None, builds.cache, os.environ) as root:
        if has_strip:
            strip = root.path / "usr/bin/strip"
            # $1 is -o.
            strip.write_text('#!/bin/sh\nhead -c 1000 "$3" >"$2"\n')
            strip.chmod(0o755)
        (package,) = embedded.build(
            root, tmp_path / "aport", tmp_path, keys=[builds.key], mtime=0, commit=None, threads=1,
            on_line=print, on_notice=said.append,
        )  # fmt: skip
    sizes = {Path(name).name: len(content or b"") for name, content in contents(package.path).items() if "app/" in name}
    assert (sizes["same"] == 1000) == has_strip
    assert sizes["script"] == len("#!/bin/sh\n")
    assert [
        line.startswith("not stripped, because the build root has no strip: shop/var/lib/shop/app/") for line in said
    ] == ([] if has_strip else [True])

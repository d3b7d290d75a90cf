"""The action's image, built from the Dockerfile as it stands, on Alpine's root or on an image that has real abuild."""

from __future__ import annotations

import fcntl
import hashlib
import io
import tarfile
from pathlib import Path

from tests import mirror
from tests.engine import Engine

PROJECT = Path(__file__).parents[1]

# Alpine's own image has exactly these and what they need; apk removes the rest of the root.
_WORLD = "alpine-baselayout alpine-keys alpine-release apk-tools busybox musl-utils"
_ALPINE = f"""\
RUN : > /etc/apk/repositories; echo {_WORLD} | tr ' ' '\\n' > /etc/apk/world; apk fix --no-network \\
	&& deluser quicksand && deluser dhcpcd && rm -r /home/quicksand /usr/local/bin/* /etc/init.d/*
"""
_BASE = """\
COPY mirror.rsa.pub /etc/apk/keys/
COPY pip.conf /etc/
RUN branch=v$(cut -d. -f1,2 /etc/alpine-release); for name in main community; do \\
	echo "http://dl-cdn.alpinelinux.org/alpine/$branch/$name"; done > /etc/apk/repositories
"""
_PIP = "[global]\nindex-url = http://pypi.org/simple\ntrusted-host = pypi.org\n"
"""As unencrypted as the repositories above, so that a proxy can answer; the lock file's hashes are checked."""


def action_image(engine: Engine, alpine_image: str, abuild_image: str, cache: Path) -> str:
    """Return the id of the action's image, built with Docker's cache; by one process at a time.

    `abuild_image` names an image with real abuild to build on, or the action's image itself; "" is `alpine_image`,
    with a stand-in for abuild.
    """
    image = abuild_image or alpine_image
    is_whole = "pakman" in engine.ask("image", "inspect", "--format", "{{.Config.Entrypoint}}", image)
    made = mirror.made(cache)
    name = hashlib.sha256(f"{PROJECT} {abuild_image}".encode()).hexdigest()[:12]
    with (cache / "mirror/building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = f"alpine:pakman-test-{name}"
        made_base = _build_base(engine, base, image, made, is_bare=not abuild_image)
        if is_whole:
            return made_base
        with mirror.served(made) as proxy:
            arguments = [f"--build-arg=ALPINE=pakman-test-{name}", f"--build-arg=http_proxy={proxy}", "--network=host"]
            # The first stage has a name of its own for the sake of what becomes of it, see _built.
            _built(engine, f"pakman-test/environment:{name}", *arguments, "--target=environment", str(PROJECT))
            return _built(engine, f"pakman-test/action:{name}", *arguments, str(PROJECT))


def _build_base(engine: Engine, tag: str, image: str, made: mirror.Mirror, *, is_bare: bool) -> str:
    dockerfile = f"FROM {image}\n{_ALPINE if is_bare else ''}{_BASE}"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in (
            ("Dockerfile", dockerfile.encode()),
            ("pip.conf", _PIP.encode()),
            (mirror.KEY_NAME, made.key.read_bytes()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return _built(engine, tag, "--network=none", "-", context=context.getvalue())


def _built(engine: Engine, tag: str, *arguments: str, context: bytes = b"") -> str:
    """Run `docker build` by the Engine's own builder, the one that is always there; return the image's id.

    The image that had the tag before is removed: nobody would ever find it again.
    """
    before = engine.run("image", "inspect", "--format", "{{.Id}}", tag).stdout.decode().strip()
    build = ["build", "--quiet", f"--tag={tag}", *arguments]
    made = engine.ask(*build, stdin=context, env={"DOCKER_BUILDKIT": "0"}, timeout=900)
    if before not in ("", made):
        engine.run("image", "rm", before)
    return made

"""A Docker Engine for tests: the one that answers, else one of the tests' own; Alpine's root as an image in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoEngineError(RuntimeError):
    """No Docker Engine answers, and none can be started."""


@dataclass(frozen=True)
class Engine:
    """A Docker Engine. Its containers have the host's network or none: the tests' own has no bridge."""

    socket: Path

    @property
    def env(self) -> dict[str, str]:
        """What a program needs in its environment to talk to it by `docker`."""
        return {"PATH": os.environ.get("PATH", PATH), "HOME": "/nonexistent", "DOCKER_HOST": f"unix://{self.socket}"}

    def run(
        self, *argv: str, stdin: bytes = b"", env: dict[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `docker ARGV`; its status is the caller's to look at."""
        return subprocess.run(
            ["docker", *argv],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout,
            env={**self.env, **(env or {})},
        )

    def ask(self, *argv: str, stdin: bytes = b"", env: dict[str, str] | None = None, timeout: float = 300) -> str:
        """Run `docker ARGV`, which must succeed; return what it wrote to stdout."""
        done = self.run(*argv, stdin=stdin, env=env, timeout=timeout)
        assert done.returncode == 0, (argv, done.returncode, done.stdout.decode()[-3000:], done.stderr.decode()[-3000:])
        return done.stdout.decode().strip()

    def has_image(self, tag: str) -> bool:
        """Say whether an image is there."""
        return self.run("image", "inspect", tag).returncode == 0

    def has_container(self, name: str) -> bool:
        """Say whether a container is there, whatever its state."""
        return self.run("container", "inspect", name).returncode == 0


@contextmanager
def running_engine(cache: Path) -> Iterator[Engine]:
    """Yield the engine that answers on this machine, else one whose images are kept in `cache`.

    All processes that ask with the same `cache` at the same time share the one that is started; the last one of them
    stops it. Raises NoEngineError where none can be had.
    """
    if shutil.which("docker") is None:
        raise NoEngineError("no `docker`: run `apt-get install docker.io`")
    there = Engine(Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")))
    if _answers(there):
        yield there
        return
    # A socket's path has room for 107 bytes, which a checkout's may take alone.
    state = Path(tempfile.gettempdir()) / f"pakman-docker-{hashlib.sha256(bytes(cache.resolve())).hexdigest()[:12]}"
    state.mkdir(mode=0o700, exist_ok=True)
    own = Engine(state / "docker.sock")
    # Whoever uses the engine holds a share of this lock, which the kernel takes back also from a killed process.
    with (state / "users").open("w") as users:
        with _locked(state / "starting"):
            if not _answers(own):
                _start(own, state, cache)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield own
        finally:
            with _locked(state / "starting"):
                fcntl.flock(users, fcntl.LOCK_UN)
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass
                else:
                    _stop(state)


def base_image(engine: Engine, root: Path) -> str:
    """Return the tag of an image made of the unpacked Alpine root, named by what is installed in it; made once."""
    content = hashlib.sha256((root / "lib/apk/db/installed").read_bytes()).hexdigest()[:12]
    release = (root / "etc/alpine-release").read_text().strip()
    return imported(engine, root, f"pakman-test/alpine:{release}-{content}")


def imported(engine: Engine, root: Path, tag: str, changes: Sequence[str] = ()) -> str:
    """Make an image of a root, unless one of that tag is there; `changes` are instructions such as `ENV A=b`."""
    changes = (f"ENV PATH={PATH}", 'CMD ["/bin/sh"]', *changes)
    if not engine.has_image(tag):
        with subprocess.Popen(
            ["tar", "--create", "--numeric-owner", "--xattrs", "--directory", str(root), "."], stdout=subprocess.PIPE
        ) as tar:
            subprocess.run(
                ["docker", "import", *(word for change in changes for word in ("--change", change)), "-", tag],
                stdin=tar.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
                env=engine.env,
            )
        assert tar.returncode == 0
    return tag


def _answers(engine: Engine) -> bool:
    return engine.run("version", "--format", "{{.Server.Version}}", timeout=30).returncode == 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(engine: Engine, state: Path, cache: Path) -> None:
    dockerd = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{PATH}")
    if dockerd is None:
        raise NoEngineError("no Docker Engine answers and there is no dockerd: run `apt-get install docker.io`")
    _stop(state)
    (state / "pid").unlink(missing_ok=True)
    log = state / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                # Neither iptables nor a bridge: an unprivileged CI container has no right to either.
                dockerd, "--iptables=false", "--bridge=none", f"--host=unix://{engine.socket}",
                f"--data-root={cache / 'docker'}", f"--exec-root={state / 'exec'}", f"--pidfile={state / 'pid'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C ends the tests, which then stop it themselves.
            start_new_session=True,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{PATH}"},
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(engine):
            # Not this process's to wait for: another one may be the last that uses it.
            process.returncode = 0
            return
        time.sleep(0.1)
    process.kill()
    process.wait()
    said = log.read_text(errors="replace").strip().splitlines()
    raise NoEngineError(f"no Docker Engine answers and dockerd does not start here: {said[-1] if said else 'no word'}")


def _stop(state: Path) -> None:
    """End the engine that was started here, if there is one, and wait until it is gone."""
    try:
        pid = int((state / "pid").read_text())
        # A stale file may name a process that has nothing to do with us.
        if b"dockerd" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.05)
    if _runs(pid):
        os.kill(pid, signal.SIGKILL)
    # The host's network, as containers had it, stays mounted.
    for mounted in (state / "exec/netns").glob("*"):
        subprocess.run(["umount", str(mounted)], check=False, capture_output=True)
    shutil.rmtree(state / "exec", ignore_errors=True)


def _runs(pid: int) -> bool:
    """Say whether a process runs; one that is our own child and has ended does not."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

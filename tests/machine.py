"""A clean Alpine machine for tests and the demo: a copy of the root in which OpenRC runs and stays up between steps."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BWRAP = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"]
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb"}


class StepFailedError(AssertionError):
    """A step on the machine ended with another status than 0."""


class Machine:
    """One PID namespace with a shell that takes steps; services that a step starts live until the machine goes."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self.path = path
        self._process = process

    def run(self, script: str) -> tuple[int, str]:
        """Run a shell script as root; return its status and what it wrote, stdout and stderr as one."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the machine has no shell")
        token = secrets.token_hex(8)
        step = self.path / "run" / f"step-{token}.sh"
        step.write_text(script)
        self._process.stdin.write(f'sh -eu /run/{step.name} </dev/null; printf "\\n%s %s\\n" {token} "$?"\n')
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(token):
                step.unlink()
                return int(line.split()[1]), "".join(lines).removesuffix("\n")
            lines.append(line)
        raise StepFailedError(f"the machine died in: {script}\n{''.join(lines)}")

    def sh(self, script: str) -> str:
        """Run a shell script that must succeed; return what it wrote."""
        status, output = self.run(script)
        if status != 0:
            raise StepFailedError(f"exit status {status} of: {script}\n{output}")
        return output


@contextmanager
def running_machine(pristine: Path, path: Path, *, is_alone: bool = False) -> Iterator[Machine]:
    """Copy the root to `path`, without repositories, boot OpenRC's state in it, yield it; remove it at the end.

    `is_alone`: it has a network of its own, so that its ports are nobody else's.
    """
    subprocess.run(["cp", "-a", "--reflink=auto", str(pristine), str(path)], check=True)
    (path / "etc/apk/repositories").write_text("")
    # The image's own rc.conf is made for its VM; Alpine's default is what a user's machine has.
    (path / "etc/rc.conf").write_text('rc_sys=""\nunicode="YES"\nrc_tty_number=12\n')
    process = subprocess.Popen(
        [
            *_BWRAP,
            *(["--unshare-net"] if is_alone else []),
            "--bind",
            str(path),
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--",
            "/bin/sh",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_ENV,
    )
    try:
        machine = Machine(path, process)
        # What /sbin/openrc leaves behind once a machine has booted; /sys/fs/cgroup is not there, which is only noise.
        machine.sh("mkdir -p /run/openrc && touch /run/openrc/softlevel")
        yield machine
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        subprocess.run(["rm", "-rf", str(path)], check=False)

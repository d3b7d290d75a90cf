"""Machines for tests, demo and benchmarks, all with the same shell: here a copy of the root in which OpenRC runs."""

from __future__ import annotations

import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BWRAP = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"]
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb"}
RC_CONF = 'rc_sys=""\nunicode="YES"\nrc_tty_number=12\n'
"""Alpine's default, which a user's machine has: the image's own is made for another use."""

PATIENCE = 300.0
"""Seconds that a step may take: many more than any does, so that a busy computer fails none."""


class StepFailedError(AssertionError):
    """A step on the machine ended with another status than 0, or not at all."""


class Machine:
    """A machine with a shell that takes steps; services that a step starts live until the machine goes."""

    host = "127.0.0.1"
    """What the machine calls the loopback of the computer that it runs on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, script: str) -> tuple[int, str]:
        """Run a shell script as root; return its status and what it wrote, stdout and stderr as one."""
        token = secrets.token_hex(8)
        # In a file: what a search among the running processes finds shall not be the script itself.
        step = f"/run/step-{token}.sh"
        self.say(f"cat >{step} <<'{token}'\n{script}\n{token}\n")
        self.say(f'sh -eu {step} </dev/null; printf "\\n%s %s\\n" {token} "$?"; rm {step}\n')
        output, last = self.hear(token, script)
        return int(last.split()[1]), output.removesuffix("\n")

    def sh(self, script: str) -> str:
        """Run a shell script that must succeed; return what it wrote."""
        status, output = self.run(script)
        if status != 0:
            raise StepFailedError(f"exit status {status} of: {script}\n{output}")
        return output

    def say(self, text: str) -> None:
        """Hand lines to the shell."""
        if self._process.stdin is None:
            raise RuntimeError("the machine has no shell")
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def hear(self, token: str, waiting_for: str) -> tuple[str, str]:
        """Read until a line that begins with the token; return what came before it, and this line."""
        if self._process.stdout is None:
            raise RuntimeError("the machine has no shell")
        lines: list[str] = []
        timer = threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith(token):
                    return "".join(lines), line
                lines.append(line)
        finally:
            timer.cancel()
        raise StepFailedError(f"the machine died in: {waiting_for}\n{''.join(lines)}{self.last_words()}")

    def last_words(self) -> str:
        """Return what else there is to say about a machine that died."""
        return ""

    def end(self) -> None:
        """Switch the machine off, as by its plug."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class Sandbox(Machine):
    """One PID namespace on this computer's kernel and network, with a copy of the root at `path`."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        super().__init__(process)
        self.path = path


@contextmanager
def running_machine(pristine: Path, path: Path, *, is_alone: bool = False) -> Iterator[Sandbox]:
    """Copy the root to `path`, without repositories, boot OpenRC's state in it, yield it; remove it at the end.

    `is_alone`: it has a network of its own, so that its ports are nobody else's.
    """
    subprocess.run(["cp", "-a", "--reflink=auto", str(pristine), str(path)], check=True)
    (path / "etc/apk/repositories").write_text("")
    (path / "etc/rc.conf").write_text(RC_CONF)
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
        env=ENV,
    )
    machine = Sandbox(path, process)
    try:
        # What /sbin/openrc leaves behind once a machine has booted; /sys/fs/cgroup is not there, which is only noise.
        machine.sh("mkdir -p /run/openrc && touch /run/openrc/softlevel")
        yield machine
    finally:
        machine.end()
        subprocess.run(["rm", "-rf", str(path)], check=False)

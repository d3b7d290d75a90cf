"""The only place that runs a program: always an argument list, always an explicit environment."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended: its exit status (negative: the signal that killed it) and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


def which(program: str, env: Mapping[str, str]) -> str | None:
    """Return the path of `program` on the PATH of `env`, with the system's directories as a last resort."""
    return shutil.which(
        program, path=f"{env.get('PATH', '')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )


def shown(argv: Sequence[str]) -> str:
    """Return the command as one would type it into a shell."""
    return shlex.join(argv)


def capture(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
) -> Completed:
    """Run a program to its end and return its status and output; for short answers, not for builds.

    Raises FileNotFoundError where there is no such program and subprocess.TimeoutExpired after `timeout` seconds.
    """
    done = subprocess.run(
        list(argv), env=dict(env), cwd=cwd, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    return Completed(done.returncode, done.stdout, done.stderr)


def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    on_line: Callable[[str], None],
    stdin: IO[bytes] | None = None,
) -> int:
    """Run a program, hand over each line it writes (stdout and stderr as one, newline removed), return its status.

    Bytes that are not UTF-8 are replaced. The program gets a session of its own; when this call is left by an
    exception (SIGINT and SIGTERM included, where they raise), the whole session is killed.
    """
    with started(argv, env=env, cwd=cwd, stdin=stdin) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            on_line(raw.decode("utf-8", "replace").rstrip("\n"))
        return process.wait()


@contextmanager
def started(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a started program in a session of its own, stdout and stderr as one pipe; kill the session at the end."""
    process = subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            with_session(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def with_session(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that `pid` leads; one that is already gone is fine."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass

"""The only place that runs a program: always an argument list, an explicit environment, and umask 022.

Every program gets a session of its own, so that a Ctrl-C in the terminal reaches only pakman, which then ends what it
started; and nothing that a program leaves behind in its process group outlives the call.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, TypeAlias

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_LINE = 64 * 1024
"""Bytes after which a line without an end is handed over in parts: a child decides how much memory its lines take."""


Process: TypeAlias = "subprocess.Popen[bytes]"
"""A program that runs."""

Enter: TypeAlias = Callable[[Sequence[str], Mapping[str, str]], NoReturn]
"""What a new process does with arguments and environment instead of becoming a program right away.

It is this process' own copy and has only one thread: what it needs has to be imported, and no lock to be taken.
"""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended: its exit status (negative: the signal that killed it) and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


def which(program: str, env: Mapping[str, str]) -> str | None:
    """Return the path of `program` on the PATH of `env`, with the system's directories as a last resort."""
    # An empty or relative entry is the current folder, or in it: an application's, and it may have a file called git.
    entries = [entry for entry in env.get("PATH", "").split(":") if entry.startswith("/")]
    return shutil.which(program, path=":".join([*entries, _SYSTEM_PATH]))


def shown(argv: Sequence[str]) -> str:
    """Return the command as one would type it into a shell."""
    return shlex.join(argv)


def how_it_ended(status: int) -> str:
    """Return an exit status in words: `exit status 2`, `killed by SIGKILL`; 128 + n is a shell's word for signal n."""
    number = -status if status < 0 else status - 128
    if status < 0 or 128 < status < 128 + signal.NSIG:
        with suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
    return f"exit status {status}"


def why_it_failed(done: Completed) -> str:
    """Return the last line that a program wrote to stderr, else how it ended."""
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), how_it_ended(done.status))


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
    with _session(argv, env, cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stdout, stderr = process.communicate(stdin, timeout)
        return Completed(process.returncode, stdout, stderr)


def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    on_line: Callable[[str], None],
    stdin: IO[bytes] | None = None,
    enter: Enter | None = None,
) -> int:
    """Run a program, hand over each line it writes (stdout and stderr as one, newline removed), return its status.

    Bytes that are not UTF-8 are replaced. The call ends when the program does: what it left behind in the background
    is killed. The same happens when the call is left by an exception (SIGINT and SIGTERM included, where they raise).
    """
    with started(argv, env=env, cwd=cwd, stdin=stdin, enter=enter) as process:
        for line in _lines(process):
            on_line(line.decode("utf-8", "replace"))
        # Its status stays where it is until its group is dead: then the group's number cannot be another's yet.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def save(argv: Sequence[str], *, env: Mapping[str, str], stdout: IO[bytes], enter: Enter | None = None) -> Completed:
    """Run a program whose output goes to an open file; `stdout` of the result is empty."""
    with _session(
        argv, env, None, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, enter=enter
    ) as process:
        _, stderr = process.communicate()
        return Completed(process.returncode, b"", stderr)


@contextmanager
def started(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: IO[bytes] | int | None = None,
    enter: Enter | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a started program in a session of its own, stdout and stderr as one pipe; kill the session at the end."""
    with _session(
        argv,
        env,
        cwd,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        enter=enter,
    ) as process:
        yield process


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Return the stdin and stdout of a program that was started with both as pipes."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the program was started without a pipe for its stdin")
    return process.stdin, process.stdout


@contextmanager
def fed(write: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """Yield the reading end of a pipe that `write` fills, for a program's stdin; raise what `write` raised.

    That the program stops reading early is its own affair: its exit status says why.
    """
    reading, writing = os.pipe()
    failure: list[BaseException] = []

    def fill() -> None:
        try:
            with open(writing, "wb") as stream:  # noqa: PTH123  (a file descriptor, not a path)
                write(stream)
        except BrokenPipeError:
            pass
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fill, name="stdin", daemon=True)
    with open(reading, "rb") as source:  # noqa: PTH123
        thread.start()
        yield source
    thread.join()
    if failure:
        raise failure[0]


def replace(argv: Sequence[str], *, env: Mapping[str, str]) -> NoReturn:
    """Become another program: this one ends here, without cleaning up."""
    os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606


@contextmanager
def _session(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None,
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    enter: Enter | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        umask=0o022,
        # It costs a tenth of what a program between us and this one would: no interpreter has to start.
        preexec_fn=None if enter is None else lambda: enter(argv, env),
    )
    try:
        yield process
    finally:
        _kill_session(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group that a program leads, and take its exit status, unless somebody has: then it is over."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what a program writes, line by line, until it has ended, whoever else holds its stdout open."""
    if process.stdout is None:
        return
    number = process.stdout.fileno()
    rest = b""
    ended = False
    while True:
        readable, _, _ = select.select([number], [], [], 0.0 if ended else 0.1)
        if readable:
            chunk = os.read(number, 65536)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.removesuffix(b"\r") for line in lines)
            while len(rest) > _LONGEST_LINE:
                yield rest[:_LONGEST_LINE]
                rest = rest[_LONGEST_LINE:]
        elif ended:
            break
        else:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    if rest:
        yield rest

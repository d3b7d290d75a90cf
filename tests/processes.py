"""The command line in processes of its own: to be killed, or to race. They start quickly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
# Imported once, by the process that all others are forked from.
_CONTEXT.set_forkserver_preload(
    ["boto3", "botocore.auth", "botocore.retries.standard", "pakman.release_commands", "pakman.shipping",
     "pakman.channels.adding", __name__]
)  # fmt: skip


def start(argv: Sequence[str | Path], env: Mapping[str, str], said: Path) -> ForkServerProcess:
    """Start `pakman ARGV`, which sees these variables alone; what it says is appended to a file."""
    process = _CONTEXT.Process(target=_run, args=([str(word) for word in argv], dict(env), str(said)))
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """Send SIGKILL, and return when nothing is left that could go on; another thread may wait for the process."""
    assert process.pid is not None
    try:
        while True:
            os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.002)
    except ProcessLookupError:
        pass


def _run(argv: list[str], env: dict[str, str], said: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    from pakman import cli

    sys.exit(cli.main(argv))

"""The command line's door: reads arguments and environment, calls one command, prints, exits with the right code."""

from __future__ import annotations

import os
import sys

from pakman import __version__

TYPE_CHECKING = False  # typing takes longer to import than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Arguments = list[str] | Callable[[], list[str]]
    """A command line, or what returns it and may raise a PakmanError instead."""


class Stopped(BaseException):
    """A signal asked for the end: unwind as Ctrl-C does, so that nothing is left behind."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def program(argv: Arguments | None = None) -> NoReturn:
    """Be the program `pakman`: run one command, and end with its exit code."""
    import gc

    # Most objects that there will ever be come with modules, and stay: they are not worth a look every 700.
    gc.set_threshold(20_000)
    status = main(argv)
    try:
        sys.stderr.flush()
    finally:
        # All is closed and cleaned up. What Python would take apart now, piece by piece, the kernel takes at once.
        os._exit(status)


def main(argv: Arguments | None = None) -> int:
    """Run one command and return its exit code.

    0 fine; 1 a bug of ours; 2 usage; 3 the manifest; 4 the build; 5 signing; 6 the bucket; 7 the deployment;
    8 the package test; 129, 130 and 143 where SIGHUP, SIGINT or SIGTERM ended the run; 141 where nobody reads any more
    what it prints.
    """
    _open_streams()
    try:
        try:
            return _answered(sys.argv[1:] if argv is None else argv)
        finally:
            # Now, and not when Python ends: then nothing could be said about it.
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (`pakman inspect … | head`): not an error of ours or theirs.
        _discard(sys.stdout.fileno())
        return 141
    except OSError as error:
        _discard(sys.stdout.fileno())
        _say(f"pakman: error: its output cannot be written: {error.strerror or error}")
        return 2


def _answered(argv: Arguments) -> int:
    # Answered before anything else is imported: scripts ask it often.
    if argv == ["--version"]:
        print(f"pakman {__version__}")
        return 0
    import signal

    # What the caller ignores stays ignored: nohup, a shell's background.
    heard = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heard}
    try:
        return _run(argv)
    except Stopped as stopped:
        _say(f"pakman: {_STOPS[stopped.number]}")
        return 128 + stopped.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(given: Arguments) -> int:
    import errno

    from pakman import commands, reports
    from pakman.errors import PakmanError

    argv = given if isinstance(given, list) else []
    try:
        return commands.run(given if callable(given) else lambda: argv, dict(os.environ))
    except PakmanError as error:
        try:
            reports.report(error, argv, os.environ)
        except OSError:
            _discard(sys.stderr.fileno())  # nobody hears it, but the exit code says it, too
        return error.exit_code
    except Exception as error:
        # No file has a name here: it is what we print that finds no reader, or no room.
        if isinstance(error, OSError) and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC):
            raise
        return reports.report_bug(error, argv, os.environ)


_STOPS = {1: "hung up", 2: "interrupted", 15: "terminated"}
"""By the number of the signal: SIGHUP, SIGINT, SIGTERM."""


def _stop(number: int, _frame: object) -> None:
    import signal

    # Once is enough: a job that is cancelled gets SIGINT and then SIGTERM, and neither may interrupt the cleaning up.
    for other in _STOPS:
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def _open_streams() -> None:
    """Give stdin, stdout and stderr something to be where the caller closed them, and a way to print any text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It takes the number that is free, so that no file opened later becomes what a child takes for its stdout.
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  (pathlib takes long to import)
    if hasattr(sys.stdout, "reconfigure"):
        # A file's name need not be text, and LC_ALL=C knows no other letters than ASCII's.
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard(stream: int) -> None:
    """Let what is left in a stream's buffer go nowhere: Python would try once more to write it, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr.fileno())

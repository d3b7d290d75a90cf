"""The command line's door: reads arguments and environment, calls one command, prints, exits with the right code."""

from __future__ import annotations

import sys

from pakman import __version__


class Terminated(BaseException):
    """SIGTERM arrived: unwind as Ctrl-C does, so that nothing is left behind."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 fine; 1 a bug of ours; 2 usage; 3 the manifest; 4 the build; 5 signing; 6 the bucket; 7 the deployment;
    8 the package test; 130 and 143 where SIGINT or SIGTERM ended the run.
    """
    arguments = sys.argv[1:] if argv is None else argv
    # Answered before anything else is imported: scripts ask it often.
    if arguments == ["--version"]:
        print(f"pakman {__version__}")
        return 0
    import os
    import signal

    from pakman import commands
    from pakman.errors import PakmanError

    signal.signal(signal.SIGTERM, _terminate)
    try:
        return commands.run(arguments, dict(os.environ))
    except PakmanError as error:
        commands.report(error, os.environ)
        return error.exit_code
    except KeyboardInterrupt:
        print("pakman: interrupted", file=sys.stderr)
        return 130
    except Terminated:
        print("pakman: terminated", file=sys.stderr)
        return 143
    except BrokenPipeError:
        # The reader of our output went away (`pakman inspect … | head`): not an error of ours or theirs.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return commands.report_bug(error, os.environ)


def _terminate(_number: int, _frame: object) -> None:
    import signal

    # Once is enough: a second SIGTERM must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated

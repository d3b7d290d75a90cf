"""What is said when a run does not end well, and what a job's log must never show."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pakman.errors import PakmanError

Env = Mapping[str, str]


def in_github(env: Env) -> bool:
    """Say whether this is a job of GitHub's, which reads workflow commands."""
    return env.get("GITHUB_ACTIONS") == "true"


_SECRETS = (
    "PAKMAN_SIGNING_KEY",
    "PAKMAN_PREVIOUS_SIGNING_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "INSTELLAR_PACKAGE_TOKEN",
    "INSTELLAR_AUTH_TOKEN",
    "PAKMAN_NOTIFY_SECRET",
)


def mask_secrets(env: Env) -> None:
    """Tell a GitHub job's log what it must never show, before anything else is said."""
    for name in _SECRETS:
        mask(env.get(name, ""), env)


def mask(secret: str, env: Env) -> None:
    """Tell a GitHub job's log one thing that it must not show."""
    if in_github(env):
        from pakman import github

        for line in github.mask(secret):
            # On stderr, which the runner reads as well: stdout may be JSON for another program.
            print(line, file=sys.stderr, flush=True)


def report(error: PakmanError, argv: list[str], env: Env) -> None:
    """Print an error once, on stderr, with what to do about it; in a GitHub job as an annotation."""
    if in_github(env):
        _annotate(error.message if not error.hint else f"{error.message}\n{error.hint}", argv)
        return
    print(f"pakman: error: {error.message}", file=sys.stderr)
    for line in error.hint.splitlines():
        print(f"  {line}", file=sys.stderr)


def _annotate(text: str, argv: list[str]) -> None:
    from pakman import github

    # Among the log's other lines, in their order; but stdout may be JSON for another program.
    wants_json = "json" in argv or "--format=json" in argv
    print(github.annotation("error", text, title="pakman"), file=sys.stderr if wants_json else None, flush=True)


def report_bug(error: Exception, argv: list[str], env: Env) -> int:
    """Print what to report about an exception that no user should ever see; return 1.

    The exception's text is left out: it may hold what the program was handling. Where it happened says enough.
    """
    import platform
    import traceback

    from pakman import __version__

    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames[-6:]]
    text = (
        f"this is a bug in pakman {__version__}: {type(error).__name__} (Python {platform.python_version()})\n"
        "please report it with these lines:\n  " + "\n  ".join(places)
    )
    if in_github(env):
        _annotate(text, argv)
    else:
        print(f"pakman: {text}", file=sys.stderr)
    return 1

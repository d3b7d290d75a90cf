"""What --log-level debug shows: each program before it runs, as one would type it into a shell.

Python itself says when one is started (docs.python.org, "Audit events table"), so none is forgotten.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from pakman import command, github

_SHOWN = 400
"""Characters of one argument: a whole script may be one."""


@contextmanager
def programs(out: TextIO, *, as_command: bool) -> Iterator[None]:
    """Log on `out` each program that is run inside; `as_command`: as GitHub's `::debug::`, which a job may hide."""
    import logging

    import structlog  # a twentieth of a second, for those who ask

    def rendered(_logger: object, _name: str, event: Mapping[str, Any]) -> str:
        line = f"+ {event['event']}" + (f"  (in {event['cwd']})" if event["cwd"] else "")
        return f"::debug::{github.escape_message(line)}" if as_command else github.neutralise(line)

    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    watching, here = True, os.getpid()

    def heard(event: str, details: tuple[Any, ...]) -> None:
        # A process that is about to become a program has that one's stdout by then, and was told of here.
        if watching and event in ("subprocess.Popen", "os.exec") and os.getpid() == here:
            words = details[1]
            argv = [words] if isinstance(words, (str, bytes)) else words
            cwd = details[2] if event == "subprocess.Popen" else None
            logger.debug(command.shown([_short(os.fsdecode(word)) for word in argv]), cwd=cwd)

    # A hook stays for good: outside of this it does nothing.
    sys.addaudithook(heard)
    try:
        yield
    finally:
        watching = False


def _short(word: str) -> str:
    first = word if len(word) <= _SHOWN else word[:_SHOWN]
    first = "\n".join(first.splitlines()[:3])
    return word if first == word else f"{first}…"

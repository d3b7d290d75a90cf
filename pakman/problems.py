"""A problem in a manifest: what `pakman validate` reports."""

from collections.abc import Iterable
from typing import Literal, NamedTuple


class Problem(NamedTuple):
    """One thing wrong, or doubtful, at one place; these fields, in this order, are the json format.

    It sorts by place. A NamedTuple without postponed annotations: dataclasses imports inspect, and start-up time is
    a promise.
    """

    file: str
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1, in characters."""
    path: str
    """Where in the manifest, e.g. `run.services[0].name`; empty for the whole file."""
    severity: Literal["error", "warning"]
    code: str
    """Stable, kebab-case, e.g. `unknown-key`."""
    message: str
    """One sentence."""
    hint: str
    """What to do; may be empty, may have lines."""


ERRORS = (
    "alias-bomb bad-call bad-dependency bad-destination bad-name bad-path bad-value control-character custom-tag "
    "empty empty-value missing-key not-a-mapping not-utf-8 old-key repeated-key repeated-name reserved-name "
    "several-documents too-deep too-large two-main-kits unknown-hook unknown-key unknown-package unknown-stack "
    "unmet-version wrong-type yaml-syntax yaml-trap"
)
"""The codes of errors, as words."""
WARNINGS = (
    "blank-in-binary debian-name hook-other-service name-differs no-main-kit no-stack program-elsewhere "
    "services-dependencies shell-in-call stack-end-of-life stop-in-post-deinstall unknown-package unknown-service-mode "
    "unmet-version"
)
"""The codes of warnings, as words."""


def text(problems: Iterable[Problem], source: str) -> str:
    """Return the problems for a terminal: place and message, the source's line with a caret below, the hint."""
    lines = source.split("\n")
    return "\n\n".join(_text(problem, lines) for problem in problems)


def json(problems: Iterable[Problem]) -> str:
    """Return the problems as a JSON list of objects with exactly the fields of Problem."""
    import json

    return json.dumps([problem._asdict() for problem in problems], indent=2)


_WINDOW = 160
"""How much of a long line is shown, in characters."""


def _text(problem: Problem, lines: list[str]) -> str:
    place = f"{problem.file}:{problem.line}:{problem.column}"
    shown = [f"{place}: {problem.severity}: {problem.message} [{problem.code}]"]
    line = lines[problem.line - 1].rstrip("\r") if problem.line <= len(lines) else ""
    if line.strip():
        start = max(0, problem.column - 1 - _WINDOW // 2) if len(line) > _WINDOW else 0
        line = line[start : start + _WINDOW]
        number = f"{problem.line:>5} | "
        shown += [
            number + _visible(line),
            " " * (len(number) - 2) + "| " + _padding(line[: problem.column - 1 - start]) + "^",
        ]
    shown += [f"  hint: {hint}" if first else f"        {hint}" for first, hint in _numbered(problem.hint)]
    return "\n".join(shown)


def _numbered(hint: str) -> list[tuple[bool, str]]:
    return [(number == 0, line) for number, line in enumerate(hint.splitlines())]


def _visible(line: str) -> str:
    # What a terminal would obey instead of show (the file may be anybody's) becomes one mark per character.
    return "".join(
        c if c == "\t" or c.isprintable() or (c.isspace() and c > "\x9f") else "\N{REPLACEMENT CHARACTER}" for c in line
    )


def _padding(before: str) -> str:
    """Return what puts the caret below the next character: tabs stay tabs, wide characters are two columns."""
    import unicodedata

    return "".join(
        "\t"
        if c == "\t"
        else ""
        if unicodedata.combining(c)
        else "  "
        if unicodedata.east_asian_width(c) in "WF"
        else " "
        for c in before
    )

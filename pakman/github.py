"""What GitHub Actions reads: workflow commands on stdout, and the files of step outputs and of the step summary.

Sources: docs.github.com, "Workflow commands for GitHub Actions"; for what the documentation leaves open the runner's
ActionCommand (how a line is parsed) and FileCommandManager (how a file is).
"""

# No `from __future__ import annotations`: a function here has that name.
import base64
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pakman import pem
from pakman.errors import PakmanError, UsageError
from pakman.problems import Problem
from pakman.repository import Repository

Kind = Literal["error", "warning", "notice"]

SHOWN = 10
"""How many annotations of one kind GitHub shows for a step; it drops the others without a word."""


def escape_message(text: str) -> str:
    """Escape what stands behind a workflow command's second `::`."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape the value of a workflow command's property."""
    return escape_message(text).replace(":", "%3A").replace(",", "%2C")


def annotation(
    kind: Kind,
    message: str,
    *,
    file: str | None = None,
    line: int | None = None,
    column: int | None = None,
    title: str | None = None,
) -> str:
    """Return the workflow command of an annotation, without a newline; line and column count from 1."""
    properties = {"file": file, "line": line, "col": column, "title": title}
    given = ",".join(f"{name}={escape_property(str(value))}" for name, value in properties.items() if value is not None)
    return f"::{kind}{' ' if given else ''}{given}::{escape_message(message)}"


def annotations(problems: Iterable[Problem]) -> str:
    """Return problems as annotations, a line each; empty where there are none.

    Where GitHub would drop some of a kind, the last that it shows says how many follow it as plain lines of the log.
    """
    lines: list[str] = []
    rest: list[str] = []
    everything = list(problems)
    for kind in ("error", "warning"):
        found = [problem for problem in everything if problem.severity == kind]
        shown = found if len(found) <= SHOWN else found[: SHOWN - 1]
        lines += [_of_problem(problem) for problem in shown]
        left = found[len(shown) :]
        if left:
            lines.append(annotation(kind, f"{len(left)} more {kind}s: the step's log has them all"))
            rest += [neutralise(_as_line(problem)) for problem in left]
    return "".join(f"{line}\n" for line in lines + rest)


def _of_problem(problem: Problem) -> str:
    return annotation(
        problem.severity,
        f"{problem.message}\n{problem.hint}" if problem.hint else problem.message,
        file=problem.file,
        line=problem.line,
        column=problem.column,
        title=problem.code,
    )


def _as_line(problem: Problem) -> str:
    text = f"{problem.file}:{problem.line}:{problem.column}: {problem.severity}: {problem.message}"
    return " ".join(f"{text} ({problem.hint})".split() if problem.hint else text.split())


def group(title: str) -> str:
    """Return the workflow command that begins a group of log lines that can be folded."""
    return f"::group::{escape_message(title)}"


def endgroup() -> str:
    """Return the workflow command that ends a group."""
    return "::endgroup::"


_SHORTEST_MASK = 8
"""Shorter words are not masked: GitHub would blot them out of every line, and drop job outputs that hold them."""


_FRAME = re.compile(r"^-----|-----$")


def mask(secret: str) -> list[str]:
    """Return the workflow commands that hide a secret in the log: each of its lines, and its base64, wrapped or not.

    They hold the secret themselves, so they may be written to a GitHub job's stdout and to nothing else. The name that
    a key carries stays to be seen: it is an output, and GitHub drops those that hold what is masked.
    """
    text = secret.strip()
    words = [line.strip() for line in text.splitlines()]
    if "-----BEGIN" in text:
        # A PEM text may have a literal backslash-n, or a blank, for each newline.
        words = pem.without_names(text.replace("\\r", " ").replace("\\n", " ")).split()
    for encoded in (text.encode(), f"{text}\n".encode()):
        words.append(base64.b64encode(encoded).decode())
        words += base64.encodebytes(encoded).decode().splitlines()
    # What frames a PEM block is no secret.
    hidden = [word for word in words if len(word) >= _SHORTEST_MASK and not _FRAME.search(word)]
    return [f"::add-mask::{escape_message(word)}" for word in dict.fromkeys(hidden)]


# The runner ends a line at CR, too. It strips white space in front of `::`; what else is not printable ASCII counts
# as such here, for it compares text as a culture does, where some characters weigh nothing. No command's name begins
# with a digit or a colon: `::1 localhost` and a ruler of colons may stay as they are.
_STARTS_COMMAND = re.compile(r"(?:^|(?<=[\r\n]))([^!-~\r\n]*)(?=::[^\s0-9:])")


def neutralise(line: str) -> str:
    """Return a line that a child wrote such that the runner sees no workflow command in it.

    `::name …` gets `> ` in front; `##[name]`, which the runner finds anywhere in a line, becomes `## [name]`. All other
    text stays as it is.
    """
    return _STARTS_COMMAND.sub(r"\1> ", line).replace("##[", "## [")


_OUTPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def write_outputs(file: Path, outputs: Mapping[str, str]) -> None:
    """Append step outputs to the file that GITHUB_OUTPUT names.

    Raises ValueError for a name that GitHub would not take, UsageError where the file cannot be written.
    """
    for name in outputs:
        if not _OUTPUT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an output")
    _append(file, "GITHUB_OUTPUT", "".join(_output(name, value) for name, value in outputs.items()))


def _output(name: str, value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    delimiter = ""  # It is in every value.
    while delimiter in value:
        delimiter = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def append_summary(file: Path, markdown: str) -> None:
    """Append Markdown to the file that GITHUB_STEP_SUMMARY names; raise UsageError where it cannot be written."""
    _append(file, "GITHUB_STEP_SUMMARY", markdown)


def _append(file: Path, variable: str, text: str) -> None:
    try:
        with file.open("a", encoding="utf-8", errors="replace", newline="") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(
            f"the file that {variable} names, {file}, cannot be written: {error.strerror}",
            hint="in a container job the user must be root; elsewhere unset the variable",
        ) from error


_ROWS = 200
"""A summary of more than 1 MiB (128 KiB for older runners) is dropped as a whole."""


def summary(
    repositories: Iterable[Repository],
    *,
    headline: str = "",
    skipped: str = "",
    warnings: Iterable[str] = (),
    problems: Iterable[Problem] = (),
    facts: Mapping[str, str],
    checks: Sequence[tuple[str, str, float, str]] = (),
    stored: Sequence[tuple[str, str]] = (),
    install: Sequence[str],
    error: PakmanError | None,
) -> str:
    """Return a run's step summary in Markdown: what went wrong, what was built, where it went, how to install it.

    `headline` is for a run that builds no packages; `facts` has what is worth a line each; `checks` those of the
    package test: result, name, seconds, reason; `stored` what became of each object, and its key; `install` are the
    lines to type on a machine. Each may be empty, and so may the repositories, where the run did not come that far.
    """
    built = list(repositories)
    parts = [f"## {_headline(built, headline, skipped, error)}"]
    if error is not None:
        parts.append(f"**{_text(error.message)}**")
        if error.hint:
            parts.append("<br>".join(_text(line) for line in error.hint.splitlines()))
    if skipped:
        parts.append(f"Skipped: {_text(skipped)}")
    parts += [f"Warning: {_text(warning)}" for warning in warnings]
    found = list(problems)
    if found:
        lines = [f"- {_code(f'{each.file}:{each.line}:{each.column}')} {_problem(each)}" for each in found[:_ROWS]]
        parts.append("\n".join([*lines, *([f"- and {len(found) - _ROWS} more"] if len(found) > _ROWS else [])]))
    if any(repository.packages for repository in built):
        parts.append(_table(built))
    if facts:
        parts.append("\n".join(f"- {_text(what)}: {_code(where)}" for what, where in facts.items()))
    if checks:
        parts.append(_checks(checks))
    if stored:
        parts.append(_stored(stored))
    if install:
        parts += ["To install it:", _block("\n".join(install))]
    return "\n\n".join(parts) + "\n\n"


def _headline(built: Sequence[Repository], headline: str, skipped: str, error: PakmanError | None) -> str:
    if error is not None:
        return "pakman failed"
    first = next((package for repository in built for package in repository.packages), None)
    if first is not None:
        return f"{_text(first.name)} {_text(first.version)}"
    return _text(headline) or ("pakman was skipped" if skipped else "pakman built nothing")


def _problem(problem: Problem) -> str:
    return f"{problem.severity}: {_text(problem.message)}" + (f" ({_text(problem.hint)})" if problem.hint else "")


def _stored(stored: Sequence[tuple[str, str]]) -> str:
    lines = [f"- {_text(what)}: {_code(key)}" for what, key in stored[:_ROWS]]
    if len(stored) > _ROWS:
        lines.append(f"- and {len(stored) - _ROWS} more")
    return "\n".join(["<details><summary>What went where</summary>", "", *lines, "", "</details>"])


def _checks(checks: Sequence[tuple[str, str, float, str]]) -> str:
    """Return the table of the package test; folded where there is nothing in it that has to be seen."""
    rows = [
        f"| {_text(result)} | {_text(f'{name}: {reason}' if reason else name)} | {seconds:.1f} s |"
        for result, name, seconds, reason in checks[:_ROWS]
    ]
    if len(checks) > _ROWS:
        rows.append(f"| | and {len(checks) - _ROWS} more | |")
    table = "\n".join(["| Result | Check | Time |", "|---|---|--:|", *rows])
    if any(result != "passed" for result, *_ in checks):
        return table
    return f"<details><summary>Package test: all {len(checks)} checks passed</summary>\n\n{table}\n\n</details>"


def _table(built: Sequence[Repository]) -> str:
    packages = [package for repository in built for package in repository.packages]
    rows = [
        (package.name, package.version, package.arch, human_size(package.size), package.sha256)
        for package in packages[:_ROWS]
    ]
    if len(packages) > _ROWS:
        rows.append((f"and {len(packages) - _ROWS} more", "", "", "", ""))
    lines = ["| Package | Version | Architecture | Size | SHA-256 |", "|---|---|---|--:|---|"]
    return "\n".join(lines + ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows])


def human_size(size: int) -> str:
    """Return a number of bytes as a person reads it: `512 B`, `1.4 KiB`, `20 MiB`."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"


def _text(value: str) -> str:
    """Return text that Markdown shows as it is, in one line, also in a table's cell."""
    plain = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", plain)


def _code(value: str) -> str:
    """Return text as a code span, where Markdown knows no escapes: the fence is longer than what is inside."""
    plain = " ".join(value.split())
    fence = "`" * (_longest_fence(plain) + 1)
    space = " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return f"{fence}{space}{plain}{space}{fence}"


def _block(value: str) -> str:
    fence = "`" * max(_longest_fence(value) + 1, 3)
    return f"{fence}sh\n{value}\n{fence}"


def _longest_fence(text: str) -> int:
    return max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)

"""Each program is shown before it runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pakman import trace


def start(*argv: str, cwd: Path | None = None) -> None:
    """Do what Python does first where a program is started."""
    sys.audit("subprocess.Popen", argv[0], list(argv), cwd, {})


@pytest.mark.parametrize(
    ("as_command", "shown"),
    [(False, "+ git -C 'my shop' log  (in /srv)\n"), (True, "::debug::+ git -C 'my shop' log  (in /srv)\n")],
)
def test_a_program_is_a_line(as_command: bool, shown: str) -> None:
    out = io.StringIO()
    with trace.programs(out, as_command=as_command):
        start("git", "-C", "my shop", "log", cwd=Path("/srv"))
    start("another")
    assert out.getvalue() == shown


def test_a_line_is_no_command_and_a_script_is_shortened() -> None:
    out = io.StringIO()
    with trace.programs(out, as_command=False):
        start("sh", "-c", "echo 1\n::add-path::x\n" + "echo 2\n" * 1000)
    said = out.getvalue()
    assert "\n> ::add-path::x" in said
    assert len(said) < 500


@pytest.mark.parametrize("words", [[b"git", "\udcff"], "git"])
def test_any_argument_is_shown(words: object) -> None:
    out = io.StringIO()
    with trace.programs(out, as_command=True):
        sys.audit("subprocess.Popen", "git", words, None, {})
    assert out.getvalue().startswith("::debug::+ git")

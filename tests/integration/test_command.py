"""Running a program on this machine; what a build root promises is in test_buildroots.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pakman import command
from tests.building import must_go, processes
from tests.roots import NASTY

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
NAP = f"30.{os.getpid()}5"
"""Seconds that no other test sleeps."""


def output(*argv: str, env: Mapping[str, str] = PATH) -> tuple[int, list[str]]:
    """Run a program; return its status and lines."""
    lines: list[str] = []
    return command.stream(argv, env=env, on_line=lines.append), lines


def test_arguments_arrive_as_they_are() -> None:
    status, lines = output("sh", "-c", r'for a; do printf "%s\0" "$a"; done', "sh", *NASTY)
    assert status == 0
    # A line's end is where lines are cut, and what is not UTF-8 is replaced on the way back.
    expected = "".join(f"{word}\0" for word in NASTY).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert "\n".join(lines) == expected


def test_the_environment_is_what_was_given() -> None:
    values = {f"NASTY_{number}": value for number, value in enumerate(NASTY)}
    status, lines = output("sh", "-c", "env -0", env={**PATH, **values})
    assert status == 0
    text = "".join(f"{line}\n" for line in lines)
    found = dict(pair.split("=", 1) for pair in text.split("\0")[:-1])
    expected = {
        key: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for key, value in values.items()
    }
    assert {key: value for key, value in found.items() if key not in ("PWD", "SHLVL", "_", "OLDPWD")} == {
        **PATH,
        **expected,
    }


def test_output_may_be_anything() -> None:
    script = r"printf 'one\r\n\n\377\376\000two'; printf 'err\n' >&2; printf 'no end'"
    assert output("sh", "-c", script) == (0, ["one", "", "��\0twoerr", "no end"])


def test_a_line_without_end_comes_in_parts() -> None:
    status, lines = output("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x")
    assert status == 0
    assert "".join(lines) == "x" * 300_000
    assert len(lines) > 1


@pytest.mark.parametrize("status", [0, 1, 77, 126, 255])
def test_the_exit_status_comes_back(status: int) -> None:
    assert output("sh", "-c", f"exit {status}") == (status, [])


def test_death_by_a_signal_comes_back() -> None:
    status, _ = output("sh", "-c", "kill -TERM $$")
    assert command.how_it_ended(status) == "killed by SIGTERM"


def test_what_stays_in_the_background_ends_with_the_program() -> None:
    began = time.monotonic()
    # With its stdout, and without.
    script = f"sleep {NAP} & sleep {NAP} >/dev/null 2>&1 & echo"
    status, lines = output("sh", "-c", script)
    assert (status, len(lines)) == (0, 1)
    assert time.monotonic() - began < 5
    must_go(lambda: processes("sleep", NAP))


def test_leaving_early_ends_the_program() -> None:
    class Interrupted(BaseException):
        pass

    def on_line(_: str) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        command.stream(["sh", "-c", f"echo started; sleep {NAP}"], env=PATH, on_line=on_line)
    must_go(lambda: processes("sleep", NAP))


def test_a_missing_program_here_is_the_callers_affair() -> None:
    with pytest.raises(FileNotFoundError):
        command.capture(["/no/such/program"], env={})


def test_capture_keeps_stdout_and_stderr_apart() -> None:
    done = command.capture(["sh", "-c", "cat; echo err >&2; exit 3"], env=PATH, stdin=b"in\xff")
    assert done == command.Completed(3, b"in\xff", b"err\n")


def test_capture_stops_waiting(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        command.capture(["sh", "-c", f"sleep {NAP}; true"], env=PATH, timeout=0.2)
    assert time.monotonic() - began < 5
    must_go(lambda: processes("sleep", NAP))


def test_save_writes_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        assert command.save(["sh", "-c", "printf 'a\\0b'; echo why >&2; exit 2"], env=PATH, stdout=file).status == 2
    assert (tmp_path / "out").read_bytes() == b"a\0b"


def test_the_working_directory_and_stdin(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "in").write_bytes(b"from a file\n")
    with (tmp_path / "in").open("rb") as file:
        command.stream(["sh", "-c", "pwd; cat"], env=PATH, cwd=tmp_path, stdin=file, on_line=lines.append)
    assert lines == [str(tmp_path), "from a file"]


def test_replace_becomes_another_program() -> None:
    code = (
        "from pakman import command; command.replace(['sh', '-c', 'echo $A'], env={'PATH': '/bin:/usr/bin', 'A': 'b'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"b\n"


def test_the_umask_is_always_the_same() -> None:
    before = os.umask(0o077)
    try:
        lines: list[str] = []
        command.stream(["sh", "-c", "umask"], env=PATH, on_line=lines.append)
    finally:
        os.umask(before)
    assert lines == ["0022"]


def test_signals_that_pakman_gets_are_not_the_childs() -> None:
    """A Ctrl-C in the terminal goes to a process group: the child has one of its own."""
    lines: list[str] = []
    command.stream(["sh", "-c", "ps -o pgid= -p $$"], env=PATH, on_line=lines.append)
    assert int(lines[0]) != os.getpgrp()

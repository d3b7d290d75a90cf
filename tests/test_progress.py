"""What a run says while it goes on."""

from __future__ import annotations

import io
import os
import pty
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from pakman import progress
from pakman.github import SHOWN
from pakman.progress import Level, Progress, Style


def _bar_in_a_terminal(columns: int) -> bytes:
    """Return what is written to a terminal that is so many columns wide; 0 where it does not know."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with os.fdopen(theirs, "w") as out:
        Progress(out, "terminal", lambda: 1.0).bar(TITLE, 512, 1024)
        said = os.read(ours, 1000)
    os.close(ours)
    return said.removeprefix(b"\r\x1b[K")


TITLE = "x86_64/a-rather-long-name-1.2.3-r0.apk"
BAR = " [###############               ] 512 B of 1.0 KiB"


@pytest.mark.parametrize(("columns", "length"), [(200, 88), (80, 79), (20, 19), (2, 1), (0, 79)])
def test_a_bar_stays_in_its_line(columns: int, length: int) -> None:
    said = _bar_in_a_terminal(columns).decode()
    assert len(said) == length
    # The numbers matter more than the end of a name.
    assert said == f"{TITLE[: max(length - len(BAR), 0)]}{BAR}"[:length]


def test_elsewhere_a_bar_is_a_line_now_and_then() -> None:
    out, now = io.StringIO(), iter([0.0, 5.0, 11.0, 12.0])
    told = Progress(out, "plain", lambda: next(now))
    for done in (0, 1, 512, 600):
        told.bar("a.apk", done, 1024)
    assert out.getvalue() == "a.apk: 512 B of 1.0 KiB (50%)\n"


@pytest.mark.parametrize(("style", "lines"), [("github", 3), ("plain", 3), ("terminal", 0)])
def test_a_bar_that_stands_still_is_said_again(style: Style, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK_AGAIN", 0.01)
    out, began = io.StringIO(), time.monotonic()
    # A hundred times as fast as it is.
    said = Progress(out, style, lambda: (time.monotonic() - began) * 100)
    with said.phase("Push"):
        said.bar("a.apk", 512, 1024)
        while out.getvalue().count("(50%)") < lines and time.monotonic() - began < 5:
            time.sleep(0.01)
        took = (time.monotonic() - began) * 100
    assert lines <= out.getvalue().count("a.apk: 512 B of 1.0 KiB (50%)\n") <= took // 10
    rest = out.getvalue()
    time.sleep(0.2)
    assert out.getvalue() == rest


class _Slow(io.StringIO):
    """A terminal that others come before while it writes."""

    def write(self, text: str) -> int:
        time.sleep(0.001)
        return super().write(text)


def test_a_notice_of_another_thread_has_a_line_of_its_own() -> None:
    out, clock = _Slow(), count()
    said = Progress(out, "terminal", lambda: float(next(clock)))

    def draw() -> None:
        for done in range(50):
            said.bar("a.apk", done, 1024)

    with ThreadPoolExecutor(1) as thread:
        drawn = thread.submit(draw)
        while not drawn.done():
            said.notice("one waits")
    assert "notice: one waits\n" in out.getvalue()
    # No bar is left in front of it, or in its place.
    for line in out.getvalue().split("\n")[:-1]:
        assert line.rpartition("\x1b[K")[2] == "notice: one waits"


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", "nwpsl"), ("info", "nwpsl"), ("warning", "w"), ("error", "")],
)
def test_a_level_hides_what_is_less_important(level: Level, heard: str) -> None:
    out = io.StringIO()
    told = Progress(out, "plain", lambda: 0.0, level)
    told.notice("n")
    told.warning("w")
    with told.phase("p"):
        told.say("s")
        told.line("l")
        told.bar("b", 1, 2)
    told.must_say("at every level")
    lines = {"n": "notice: n", "w": "warning: w", "p": "==> p", "s": "s", "l": "    l"}
    assert out.getvalue().splitlines() == [*(lines[each] for each in heard), "at every level"]


def test_a_child_s_line_is_no_command_to_github(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as out:
        Progress(out, "github", lambda: 0.0).line("::set-output name=a::b")
    assert file.read_text() == "> ::set-output name=a::b\n"


def test_beyond_what_github_shows_of_a_kind_a_notice_is_a_line() -> None:
    out = io.StringIO()
    told = Progress(out, "github", lambda: 0.0)
    for number in range(SHOWN + 2):
        told.notice(f"abuild: {number}\n::error::no")
    told.warning("of another kind")
    lines = out.getvalue().splitlines()
    assert lines[:SHOWN] == [f"::notice::abuild: {number}%0A::error::no" for number in range(SHOWN)]
    rest = ["notice: abuild: 10", "> ::error::no", "notice: abuild: 11", "> ::error::no", "::warning::of another kind"]
    assert lines[SHOWN:] == rest

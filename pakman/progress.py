"""What a run says while it works: phases with durations, a child's lines, a bar for uploads.

In a terminal the bar is redrawn in place; in a GitHub job a phase is a group and the bar a line every ten seconds;
anywhere else both are plain lines.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TextIO

from pakman import github
from pakman.github import human_size as human_size

Style = Literal["terminal", "plain", "github"]
Level = Literal["debug", "info", "warning", "error"]
"""How important the least is that is said; a phase, a child's line and a notice are `info`."""

_BAR_WIDTH = 30
_COLUMNS = 80
"""Of a terminal that does not say how wide it is."""
_QUIET_SECONDS = 10.0
_LOOK_AGAIN = 1.0
"""Seconds after which somebody looks whether the bar has stood still for so long."""


class Progress:
    """Says what happens on one stream; `clock` counts seconds from anywhere and never goes back."""

    def __init__(self, out: TextIO, style: Style, clock: Callable[[], float], level: Level = "info") -> None:
        self._out = out
        self._is_quiet = level in ("warning", "error")
        self._hides_warnings = level == "error"
        self._style = style
        self._clock = clock
        self._drawn = False
        self._last_bar = float("-inf")
        self._bar: tuple[str, int, int] | None = None
        """What is not done yet."""
        self._bars = threading.Lock()
        self._ended = threading.Event()
        """The phase, and with it what looks after its bar; where there is none, nothing does."""
        self._ended.set()
        self._watched = False
        self._annotated: Counter[str] = Counter()

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Frame what happens inside: a group in a GitHub job, else a headline; its duration at the end."""
        if self._is_quiet:
            yield
            return
        began = self._clock()
        self._ended, self._watched = threading.Event(), False
        self._write(github.group(title) if self._style == "github" else f"==> {title}")
        try:
            yield
        finally:
            with self._bars:
                self._ended.set()
                self._bar = None
            self._erase()
            if self._style == "github":
                self._write(f"{title}: {self._clock() - began:.1f} s")
                self._write(github.endgroup())

    def line(self, text: str) -> None:
        """Pass on a line that a child wrote; in a GitHub job it cannot issue workflow commands."""
        if not self._is_quiet:
            self._erase()
            self._write(github.neutralise(text) if self._style == "github" else f"    {text}")

    def say(self, text: str) -> None:
        """Say one thing of our own."""
        if not self._is_quiet:
            self.must_say(text)

    def must_say(self, text: str) -> None:
        """Say one thing of our own that is heard at every level."""
        self._erase()
        self._write(text)

    def notice(self, text: str) -> None:
        """Say something the user should know that is not wrong."""
        self._annotate("notice", text)

    def warning(self, text: str) -> None:
        """Say something the user should look at."""
        self._annotate("warning", text)

    def bar(self, title: str, done: int, total: int) -> None:
        """Show how many bytes of `total` are done; a phase says it every ten seconds, also where nothing moves."""
        if self._is_quiet:
            return
        with self._bars:
            self._bar = (title, done, total) if done < total else None
            self._draw(title, done, total)
            if not self._watched and not self._ended.is_set() and self._style != "terminal":
                self._watched = True
                threading.Thread(target=self._watch, args=(self._ended,), daemon=True).start()

    def _watch(self, ended: threading.Event) -> None:
        # Whether the log can still be written to, others find out.
        with suppress(OSError, ValueError):
            while not ended.wait(_LOOK_AGAIN):
                with self._bars:
                    if self._bar is not None:
                        self._draw(*self._bar)

    def _draw(self, title: str, done: int, total: int) -> None:
        now = self._clock()
        share = done / total if total else 1.0
        if self._style == "terminal":
            if now - self._last_bar < 0.05 and done < total:
                return
            filled = int(share * _BAR_WIDTH)
            bar = f" [{'#' * filled}{' ' * (_BAR_WIDTH - filled)}] {human_size(done)} of {human_size(total)}"
            # What does not fit would go on in the next line, where nothing erases it.
            room = self._columns() - 1
            self._out.write(f"\r\x1b[K{f'{title[: max(room - len(bar), 0)]}{bar}'[:room]}")
            self._out.flush()
            self._drawn = True
            self._last_bar = now
        elif now - self._last_bar >= _QUIET_SECONDS:
            if self._last_bar > float("-inf"):
                self._write(f"{title}: {human_size(done)} of {human_size(total)} ({share:.0%})")
            self._last_bar = now

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._out.fileno()).columns or _COLUMNS
        except (OSError, ValueError):
            return _COLUMNS

    def _annotate(self, kind: Literal["notice", "warning"], text: str) -> None:
        if self._hides_warnings or (self._is_quiet and kind == "notice"):
            return
        plain = f"{kind}: {text}"
        # Threads that wait for a server say so, while others draw.
        with self._bars:
            self._erase()
            if self._style != "github":
                self._write(plain)
                return
            # A build can have abuild warn as often as it likes.
            self._annotated[kind] += 1
            is_shown = self._annotated[kind] <= github.SHOWN
            self._write(github.annotation(kind, text) if is_shown else github.neutralise(plain))

    def _erase(self) -> None:
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

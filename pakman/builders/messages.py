"""What abuild writes, line by line, and what it means: warnings to pass on, the step it failed in, the reason.

Sources: abuild's `msg`, `warning`, `error` and `runpart`; `*` behind a package's name stands for fakeroot.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pakman import command
from pakman.builders import postcheck
from pakman.builders.driver import ENDED, LastLines, failure
from pakman.errors import BuildError

_FAILED = re.compile(r"([a-z_]+) failed")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN = 3
"""Reasons, and lines below each, that fit into a sentence."""

_STEPS = {
    **dict.fromkeys(("prepare_subpackages", "prepare_package"), "postcheck"),
    "create_apks": "making the .apk files",
    "validate": "reading the APKBUILD",
}
"""What abuild's functions are called where their own names say little; `rootpkg` is around them."""
_NO_TREE = re.compile(r"Missing (?:sub)?pkgdir for (\S+)")
_NO_LIBRARY = re.compile(r"(\S+): path not found")


class Messages:
    """What abuild has written so far. `tree` is where the packages' trees are in the root: no user knows that path."""

    def __init__(self, name: str, tree: str, on_line: Callable[[str], None], on_warning: Callable[[str], None]) -> None:
        self._name = name
        self._own = re.compile(rf">>> (?:(WARNING|ERROR): )?{re.escape(name)}[A-Za-z0-9._+-]*\*?: (.*)")
        self._tree = re.compile(rf"{re.escape(tree)}/[^/]+")
        self._on_line = on_line
        self._on_warning = on_warning
        self._last = LastLines()
        self._status: int | None = None
        self._step = ""
        self._reasons: list[list[str]] = []
        self._details: list[str] | None = None
        """Of the error that was written last, while lines that belong to it may follow."""

    def line(self, line: str) -> None:
        """Take one line."""
        text = _COLOURS.sub("", line)
        if ended := ENDED.fullmatch(text):
            self._status = int(ended[1])
            return
        self._on_line(text)
        if own := self._own.fullmatch(text):
            self._take(own[1], self._tree.sub("", own[2]))
        elif self._details is not None and len(self._details) <= _SHOWN:
            self._details.append(self._tree.sub("", text).strip())
        else:
            self._last.add(text)

    def _take(self, kind: str | None, text: str) -> None:
        self._details = None
        if kind is None:
            self._last.clear()
        elif kind == "WARNING":
            self._on_warning(text)
        elif failed := _FAILED.fullmatch(text):
            self._step = self._step or failed[1]
        else:
            self._details = [text]
            self._reasons.append(self._details)

    @property
    def last_lines(self) -> str:
        """What the build wrote last, for an error to quote."""
        return self._last.quoted()

    def failure(self, status: int, build_command: str) -> BuildError:
        """Return the error for an abuild that ended with this status; `build_command` is what the user knows of it."""
        if self._step in ("build", "package"):
            what = build_command if self._step == "build" else "package()"
            return failure(what, status if self._status is None else self._status, self._last)
        reasons = [" ".join(reason[: _SHOWN + 1]) for reason in self._reasons]
        for reason in reasons:
            if empty := _NO_TREE.match(reason):
                return postcheck.empty(empty[1], self._name)
        if missing := [found[1] for reason in reasons if (found := _NO_LIBRARY.fullmatch(reason))]:
            return BuildError(
                f"dependencies: {self._name} is linked to {', '.join(missing)}, and nothing in the build root has it",
                hint="name the package that has it in dependencies.build and dependencies.runtime; or leave "
                "dependencies.trace out, where the application brings it along",
            )
        step = _STEPS.get(self._step, self._step) or command.how_it_ended(status)
        if not reasons:
            return BuildError(f"abuild failed: {step}", hint=self.last_lines)
        more = f" (and {len(reasons) - _SHOWN} more)" if len(reasons) > _SHOWN else ""
        hint = postcheck.HINT if step == "postcheck" else ""
        return BuildError(f"abuild failed: {step}: {'; '.join(reasons[:_SHOWN])}{more}", hint=hint)

"""The first process of a run root: a shell that takes scripts, one after the other, and says how each ended."""

from __future__ import annotations

import base64
import os
import re
import secrets
import select
import time
from collections import deque
from contextlib import suppress

from pakman import command
from pakman.runroots import Ran, RootEndedError

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb"}
"""All that is in the environment of a script."""

SCRIPT = r"""
umask 022
orders() {
	while read -r token text; do
		if [ "$token" = end ]; then
			# Until the last is gone, which takes a moment; one that waits for a broken disk is let be.
			tries=0
			while pkill -KILL -s "$(cat /run/pakman.session)" && [ "$tries" -lt 300 ]; do
				tries=$((tries + 1))
				sleep 0.01
			done
			continue
		fi
		printf %s "$text" | base64 -d >/run/pakman.sh
		printf '\n%s begins\n' "$token"
		(
			setsid /bin/sh /run/pakman.sh </dev/null &
			echo $! >/run/pakman.session
			{ wait $!; } 2>/dev/null
			printf '\n%s %s\n' "$token" $?
		) &
	done
}
exec 3<&0 2>&1
orders <&3 &
# As the first process of a container it inherits what others leave behind: while it waits, it buries those, too.
wait
"""
"""It ends when its stdin does. A script comes as a file, so that a search among the processes never finds its text."""

_PATIENCE = 20.0
"""Seconds that a script has to be gone once it was killed."""
_LINES = 400
_LONGEST_LINE = 2000


class Shell:
    """A talk with the first process, SCRIPT, whose stdin and stdout are pipes."""

    def __init__(self, process: command.Process) -> None:
        self._process = process
        self._orders, output = command.pipes(process)
        self._output = output.fileno()
        self._rest = b""

    def run(self, script: str, seconds: float) -> Ran:
        """See RunRoot."""
        token = secrets.token_hex(16).encode()
        began = time.monotonic()
        self._order(token + b" " + base64.b64encode(script.encode()))
        lines: deque[str] = deque(maxlen=_LINES)
        # What comes before is what others write, which an earlier script has left in the background.
        self._until(token, began + _PATIENCE, lines)
        lines.clear()
        word = self._until(token, began + seconds, lines)
        if word is None:
            self._order(b"end")
            if self._until(token, time.monotonic() + _PATIENCE, lines) is None:
                raise RootEndedError("a script in the run root cannot be ended: nothing more can be tested in it")
        if lines and not lines[-1]:
            lines.pop()  # it is the first character of what says the status
        return Ran(None if word is None else int(word), tuple(lines), time.monotonic() - began)

    def _order(self, words: bytes) -> None:
        with suppress(BrokenPipeError):
            self._orders.write(words + b"\n")
            self._orders.flush()

    def _until(self, token: bytes, deadline: float, lines: deque[str]) -> bytes | None:
        """Read lines until one with the token; return the word behind it, None where none has come by then."""
        while (word := self._taken(token, lines)) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._output], [], [], left)[0]:
                return None
            chunk = os.read(self._output, 65536)
            if not chunk:
                self._process.wait()
                said = "".join(f": {line}" for line in list(lines)[-1:] if line)
                raise RootEndedError(f"the run root's first process was ended from within{said}")
            self._rest += chunk
        return word

    def _taken(self, token: bytes, lines: deque[str]) -> bytes | None:
        """Take whole lines of what was read, up to and with one that has the token; return the word behind that."""
        start = 0
        word = None
        while word is None:
            end = self._rest.find(b"\n", start)
            if end < 0 and len(self._rest) - start <= _LONGEST_LINE:
                break
            # A line without an end is taken in parts.
            line = self._rest[start : end if end >= 0 else start + _LONGEST_LINE]
            start += len(line) + (end >= 0)
            if line.startswith(token + b" "):
                word = line.split()[1]
            else:
                lines.append(_text(line))
        self._rest = self._rest[start:]
        return word


# Colours and the like (ECMA-48), then whatever else a terminal obeys: a hook's words go into messages of our own.
_STYLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CONTROL = str.maketrans(dict.fromkeys([*range(9), *range(10, 32), *range(127, 160)], "?"))


def _text(line: bytes) -> str:
    text = line[:_LONGEST_LINE].removesuffix(b"\r").decode("utf-8", "replace")
    return _STYLE.sub("", text).translate(_CONTROL)

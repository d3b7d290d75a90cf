"""The words of a `call` as they are written, and which of them only a shell would read.

The programs of a service are run without one: `$PORT` is five characters to them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""")
_QUOTED = re.compile(r"""\\.|'[^']*'|("(?:[^"\\]|\\.)*")""")
_SHELLS = ("ash", "bash", "dash", "sh")


def for_shell(call: str, program: str) -> list[str]:
    """Return those of a call's words that mean something to a shell and are not quoted from it, as they are written."""
    if _WORD.sub("", call).strip():
        return []  # a quote is open: nobody knows what the words are
    return [word for word, is_for_shell in _words(call, program) if is_for_shell]


def line(start: str, call: str, program: str) -> str:
    """Return the line for a shell that runs `start`, which is `program`, with a call's words.

    What was handed to the program as it stands still is.
    """
    words = [word if is_meant else shlex.join(shlex.split(word)) for word, is_meant in _words(call, program)]
    if "$(" in call or "`" in call:
        words = [call]  # a command with blanks in it is not one of these words
    # The shell makes way for the program, which then gets the signals; unless something comes after it.
    is_last = not any(re.search("^[;&|]+$|;$", word) for word in for_shell(call, program))
    return " ".join([*(["exec"] if is_last else []), start, *words])


def _words(call: str, program: str) -> Iterator[tuple[str, bool]]:
    """Yield each word of a call, quotes kept, and whether it is for a shell; what follows a shell's own `-c` is not."""
    before = ["", program.rpartition("/")[2]]
    for word in _WORD.findall(call):
        is_script = re.fullmatch("-[a-z]*c", before[-1]) is not None and before[-2] in _SHELLS
        yield word, not is_script and _is_for_shell(word, before[-1])
        before.append(word.rpartition("/")[2])


def _is_for_shell(word: str, before: str) -> bool:
    bare = _QUOTED.sub("", word)
    doubly = "".join(re.sub(r"\\.", "", inner) for inner in _QUOTED.findall(word))
    if re.search(r"\$[A-Za-z_({]|`", bare + doubly):
        return True
    # In the middle of a word, as in an address, an & is more often meant than not; so is the * of an option.
    if re.match(r"~(?:/|$)|[0-9&]?(?:<|>)|[;&|]+$", bare) or bare.endswith(";"):
        return True
    return "*" in bare and not word.startswith("-") and not before.startswith("-")

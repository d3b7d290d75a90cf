"""A YAML document as a tree of values that know where they stand."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """What is wrong at a place (line and column from 1), before `pakman.problems` knows which file it is in."""

    line: int
    column: int
    path: str
    code: str
    message: str
    hint: str


class Unreadable(Exception):  # noqa: N818  (not raised to the user: it carries the one fault that is reported)
    """There is no tree: the text is not YAML, or more than a manifest can be."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Node:
    """One value: where it stands, how it is written, what YAML reads.

    `value` is plain data (str, int, float, bool, None, list, dict with str keys); `plain` is the text of an unquoted
    scalar, else None. `entries` are a mapping's values and `keys` its keys, both by key; `elements` are a list's.
    """

    __slots__ = ("block", "column", "elements", "entries", "keys", "line", "plain", "size", "trapped", "value")

    def __init__(self, line: int, column: int, value: Any, plain: str | None = None) -> None:
        self.line = line
        self.column = column
        self.value = value
        self.plain = plain
        self.block = False
        """Whether it is a text behind `|`: its lines stand below."""
        self.trapped = False
        """Whether a fault has been reported for it already."""
        self.size = 1
        """How many values are in it, itself included, aliases counted as what they stand for."""
        self.keys: dict[str, Node] = {}
        self.entries: dict[str, Node] = {}
        self.elements: list[Node] = []

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it has items."""
        return isinstance(self.value, list)

    def child(self, key: str | int) -> "Node | None":
        """Return the value of a key, or the item at an index, if there is one."""
        if isinstance(key, str):
            return self.entries.get(key)
        return self.elements[key] if key < len(self.elements) else None

    def along(self, path: Iterable[str | int]) -> Iterator[tuple["Node | None", "Node"]]:
        """Yield the key, where it has one, and the value of each part of a path, as far as that is there."""
        node = self
        for part in path:
            child = node.child(part)
            if child is None:
                return
            yield node.keys.get(part) if isinstance(part, str) else None, child
            node = child

    def mapping(self, key: str) -> "Node":
        """Return the mapping at `key`; an empty one where there is none, or something else."""
        found = self.entries.get(key)
        return found if found is not None and found.is_mapping else Node(self.line, self.column, {})

    def items(self, key: str, kind: type) -> list[tuple[int, "Node"]]:
        """Return the items of the list at `key` that are of a kind (str, dict), with their indexes."""
        found = self.entries.get(key)
        items = enumerate(found.elements if found is not None else ())
        return [(index, item) for index, item in items if isinstance(item.value, kind)]

    def text(self, key: str) -> "Node | None":
        """Return the value of `key` where it is a text."""
        found = self.entries.get(key)
        return found if found is not None and isinstance(found.value, str) else None


def path_text(parts: list[str | int]) -> str:
    """Return a path as messages have it: `run.services[0].name`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + shown(part)
    return text


def path_parts(text: str) -> tuple[str | int, ...]:
    """Return the parts of a path, as messages or as others have it: `kits[0].name`, `kits.0.name`, `/kits/0/name`."""
    words = [word for word in re.split(r"[./\[\]]+", text[:1000]) if word]
    return tuple(int(word) if re.fullmatch(r"[0-9]{1,6}", word) else word for word in words)


def shown(text: str) -> str:
    """Return a text of the file as a message can hold it: one line, not long, nothing a terminal obeys."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return "".join(c if c.isprintable() else "?" for c in short)


def quoted(text: str) -> str:
    """Return a text as a YAML string in quotes, as a hint can hold it."""
    return "'" + shown(text).replace("'", "''") + "'"

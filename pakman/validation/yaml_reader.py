"""YAML read with positions, and without its dangers.

The tree is built from the parser's events, so that depth, size and aliases are bounded before anything is expanded,
a key that is there twice is seen, and what YAML makes of an unquoted value is known where it matters.
"""

from __future__ import annotations

from typing import Any

import yaml

from pakman.validation.yaml_tree import Fault, Node, Unreadable, path_text, quoted, shown

MAX_DEPTH = 40
"""How deep lists and mappings may be in each other. A manifest needs eight."""
MAX_VALUES = 10_000
"""How many values a manifest may have, aliases counted as what they stand for. A long one has five hundred."""


def parse(text: str, loader: Any = None) -> tuple[Node | None, list[Fault]]:
    """Read a text that is one YAML document: its tree (None where there is no value) and what is wrong with it.

    Raises Unreadable where it is not YAML, or has more levels or values than a manifest can have.
    """
    # libyaml's parser where PyYAML was built with it, else the one in Python: several times slower, otherwise the same.
    return _Builder((loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader))(text), text).document()


class _Builder:
    """One pass over the events, with a stack instead of recursion."""

    def __init__(self, loader: Any, source: str) -> None:
        self.loader = loader
        self.source = source
        self.faults: list[Fault] = []
        self.open: list[tuple[Node, str | None]] = []
        """The lists and mappings that we are in, with their anchors."""
        self.pending: list[Node | None] = []
        """For each of them the key that waits for its value."""
        self.anchors: dict[str, Node | None] = {}
        """None while what an anchor stands for is still open."""
        self.aliases = 0
        self.root: Node | None = None

    def document(self) -> tuple[Node | None, list[Fault]]:
        try:
            while self.loader.check_event():
                self.take(self.loader.get_event())
        except yaml.YAMLError as error:
            from pakman.validation import yaml_syntax

            raise Unreadable(yaml_syntax.explain(error, self.source, self.path())) from None
        return self.root, self.faults

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self.add(self.scalar(event), event.anchor, event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            node, anchor = self.open.pop()
            self.pending.pop()
            self.add(node, anchor, event)
        elif isinstance(event, yaml.AliasEvent):
            self.add(self.alias(event), None, event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            message = "a second YAML document begins here, and a manifest is one"
            hint = "take the line `---` out, and what follows it"
            raise self.unreadable(event, "several-documents", message, hint)

    def begin(self, event: Any) -> None:
        if self.expects_key():
            message = "a key is a list or a mapping here, and keys are words"
            hint = "put a value that begins with `{` or `[` in quotes: '{{ value }}'"
            raise self.unreadable(event, "yaml-syntax", message, hint)
        if len(self.open) >= MAX_DEPTH:
            message = f"lists and mappings are more than {MAX_DEPTH} levels deep in each other here"
            raise self.unreadable(event, "too-deep", message, "no key of a manifest goes that deep")
        self.refuse_tag(event, _COLLECTIONS)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self.open.append((_node(event, {} if is_mapping else []), event.anchor))
        self.pending.append(None)
        if event.anchor is not None:
            self.anchors[event.anchor] = None

    def expects_key(self) -> bool:
        return bool(self.open) and self.open[-1][0].is_mapping and self.pending[-1] is None

    def add(self, node: Node, anchor: str | None, event: Any) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.open:
            self.root = node
            return
        parent = self.open[-1][0]
        key = self.pending[-1]
        if parent.is_mapping and key is None:
            self.pending[-1] = node
            return
        parent.size += node.size
        if parent.size > MAX_VALUES:
            self.refuse_size(event)
        if key is None:
            parent.elements.append(node)
            parent.value.append(node.value)
        else:
            self.entry(parent, key, node)
            self.pending[-1] = None

    def entry(self, parent: Node, key: Node, node: Node) -> None:
        if key.plain == "<<":
            self.merge(parent, key, node)
        elif key.trapped:
            pass
        elif not isinstance(key.value, str):
            self.faults.append(_key_trap(key, self.path()))
        elif key.value in parent.keys and not parent.keys[key.value].trapped:
            first = parent.keys[key.value].line
            message = f"the key `{shown(key.value)}` is here a second time; the first is in line {first}"
            hint = "keep one of the two, or bring what they say together under one"
            self.faults.append(Fault(key.line, key.column, self.path(), "repeated-key", message, hint))
        else:
            _set(parent, key, node)

    def merge(self, parent: Node, key: Node, node: Node) -> None:
        """Do what `<<: *anchor` means: take over the keys that the mapping has not got itself."""
        sources = node.elements if node.is_list else [node]
        if not all(source.is_mapping for source in sources):
            message = "`<<` takes over the keys of a mapping, and here is something else"
            hint = "write `<<: *name`, where `&name` stands before a mapping"
            self.faults.append(Fault(key.line, key.column, self.path(), "wrong-type", message, hint))
            return
        for source in sources:
            for name, value in source.entries.items():
                if name not in parent.entries:
                    merged = Node(key.line, key.column, name)
                    merged.trapped = True  # it is no repetition where the mapping's own key follows
                    _set(parent, merged, value)

    def alias(self, event: Any) -> Node:
        name = shown(event.anchor)
        self.aliases += 1
        if event.anchor not in self.anchors:
            message = f"`*{name}` stands for an anchor `&{name}`, and there is none before it"
            hint = f"put it in quotes if it is a text: {quoted('*' + event.anchor)}"
            raise self.unreadable(event, "yaml-syntax", message, hint)
        node = self.anchors[event.anchor]
        if node is None:
            message = f"`*{name}` is inside of what it stands for, which therefore has no end"
            raise self.unreadable(event, "alias-bomb", message, "write out what is meant")
        return node

    def scalar(self, event: Any) -> Node:
        self.refuse_tag(event, tuple(_CONSTRUCTORS))
        is_plain = event.implicit[0] and event.tag is None
        node = _node(event, event.value, event.value if is_plain else None)
        node.block = event.style == "|"
        if "\0" in event.value or _has_surrogate(event.value):
            self.trap(node, "control-character", "a character is in this text that no file can hold", "take it out")
            node.value = "?"
            return node
        tag = self.loader.resolve(yaml.ScalarNode, event.value, (True, False)) if is_plain else event.tag
        construct = _CONSTRUCTORS.get(tag)
        if construct is not None:
            try:
                node.value = _read(construct, self.loader, tag, event.value)
            except _Trap as trap:
                hint = f"put it in quotes: {quoted(event.value)}"
                self.trap(node, "yaml-trap", f"`{shown(event.value)}` is read as {trap}", hint)
        return node

    def trap(self, node: Node, code: str, message: str, hint: str) -> None:
        node.trapped = True
        self.faults.append(Fault(node.line, node.column, self.path(), code, message, hint))

    def refuse_tag(self, event: Any, allowed: tuple[str, ...]) -> None:
        if event.tag is None or event.tag == "!" or event.tag in allowed:
            return
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        value = f"{tag} {getattr(event, 'value', '')}".strip()
        message = f"`{shown(tag)}` is read as a YAML tag, and a manifest has none"
        hint = f"put the value in quotes if the `!` belongs to it: {quoted(value)}"
        mark = event.start_mark
        self.faults.append(Fault(mark.line + 1, mark.column + 1, self.path(), "custom-tag", message, hint))

    def refuse_size(self, event: Any) -> None:
        if self.aliases:
            message = f"with its aliases written out this manifest has more than {MAX_VALUES} values"
            raise self.unreadable(event, "alias-bomb", message, "write fewer aliases (`*name`) into each other")
        message = f"this manifest has more than {MAX_VALUES} values"
        raise self.unreadable(event, "too-large", message, "what is that long belongs into a file of the repository")

    def unreadable(self, event: Any, code: str, message: str, hint: str) -> Unreadable:
        mark = event.start_mark
        return Unreadable(Fault(mark.line + 1, mark.column + 1, self.path(), code, message, hint))

    def path(self) -> str:
        parts: list[str | int] = []
        for (node, _), key in zip(self.open, self.pending, strict=True):
            if node.is_list:
                parts.append(len(node.elements))
            elif key is not None:
                parts.append(str(key.value))
        return path_text(parts)


def _node(event: Any, value: Any, plain: str | None = None) -> Node:
    return Node(event.start_mark.line + 1, event.start_mark.column + 1, value, plain)


def _set(parent: Node, key: Node, node: Node) -> None:
    parent.keys[key.value] = key
    parent.entries[key.value] = node
    parent.value[key.value] = node.value


def _has_surrogate(text: str) -> bool:
    # "\ud800" as an escape: libyaml refuses it, the parser in Python lets it through.
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _key_trap(key: Node, path: str) -> Fault:
    if not key.plain:
        hint = "write the key before the colon"
        return Fault(key.line, key.column, path, "yaml-trap", "here is a colon without a key before it", hint)
    message = f"the key `{shown(key.plain)}` is read as {reading(key)}"
    return Fault(key.line, key.column, path, "yaml-trap", message, f"put it in quotes: {quoted(key.plain)}:")


def reading(node: Node) -> str:
    """Return what YAML makes of an unquoted value, as a message says it: `the number 3.2`, `true`."""
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return "a number" if str(node.value) == node.plain else f"the number {node.value}"


class _Trap(Exception):  # noqa: N818  (it never leaves this module)
    """A reading that nobody means; says which."""


def _read(construct: Any, loader: Any, tag: str, text: str) -> Any:
    """Return the value that YAML 1.1 reads; raises _Trap."""
    if tag in _NUMBERS and text.count(":") > _MOST_PLACES:
        # Not read at all: PyYAML's time for 1:1:1… grows with the square of its length.
        raise _Trap("a number in base 60")
    try:
        value = construct(loader, yaml.ScalarNode(tag, text))
    except (ValueError, OverflowError, LookupError, AttributeError, yaml.YAMLError):
        raise _Trap("a number or a date, and is not a valid one") from None
    if isinstance(value, float | int) and not -_LARGEST < value < _LARGEST:
        raise _Trap("a number that is too large, or none")
    if isinstance(value, int | float) and ":" in text:
        raise _Trap(f"the number {value}, in base 60")
    if value is not None and not isinstance(value, str | int | float):
        raise _Trap("a date")
    return value


_LARGEST = 2**63
_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_MOST_PLACES = 20
"""As many places in base 60 as _LARGEST has are eleven."""
_COLLECTIONS = (f"{_TAG}map", f"{_TAG}seq")
_CONSTRUCTORS = {
    f"{_TAG}str": lambda _loader, node: node.value,
    f"{_TAG}int": lambda loader, node: loader.construct_yaml_int(node),
    f"{_TAG}float": lambda loader, node: loader.construct_yaml_float(node),
    f"{_TAG}bool": lambda loader, node: loader.construct_yaml_bool(node),
    f"{_TAG}null": lambda _loader, _node: None,
    f"{_TAG}timestamp": lambda loader, node: loader.construct_yaml_timestamp(node),
}
"""The scalars a manifest may have, by YAML's tags; a text in quotes has none of them."""

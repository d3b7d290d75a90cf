"""The manifest's dialect of 2021: what to write today for each of its keys."""

from __future__ import annotations

from typing import Any

from pakman.validation.yaml_tree import Node, quoted


def hint(path: str, node: Node, root: Node) -> str | None:
    """Return what to write instead of the key at `path`, with the lines to paste; None for a key that is not old."""
    explain = _KEYS.get(path)
    return explain(node.value, _name(root)) if explain is not None else None


def _name(root: Node) -> str:
    name = root.mapping("run").text("name")
    return name.value if name is not None else "NAME"


def _destination(value: Any, _name: str) -> str:
    path = value.rstrip("/") if isinstance(value, str) else "dist"
    path = path if path.endswith("*") or not path else f"{path}/*"
    return f"`build.destinations` is a list of globs today; write:\n  destinations:\n    - {quoted(path)}"


def _commands(value: Any, _name: str) -> str:
    lines = (
        [line for line in value if isinstance(line, str)] if isinstance(value, list) else str(value or "").splitlines()
    )
    script = "\n".join(f"    {line}" for line in lines) or "    make"
    return f"`build.command` is one shell script today; write:\n  command: |\n{script}"


def _start(value: Any, name: str) -> str:
    call = _text(value, "call") or (value if isinstance(value, str) else "start")
    binary = _text(value, "binary") or name
    return (
        "what runs is listed in `run.services` today; write:\n"
        f"  services:\n    - name: web\n      binary: {_plain(binary)}\n      start:\n        call: {_plain(call)}"
    )


def _stop(_value: Any, _name: str) -> str:
    return "the supervisor stops a service by its process today; take the key out"


def _command(value: Any, name: str) -> str:
    call = _text(value, "call")
    variations = value.get("variations") if isinstance(value, dict) else None
    if not isinstance(variations, dict) or not variations:
        variations = {"migrate": "migrate"}
    lines = []
    for key, argument in variations.items():
        lines += [f"    - name: {_plain(str(key))}", f"      binary: {_plain(name)}"]
        lines += [f"      call: {_plain(f'{call} {argument}'.strip())}"]
    return "commands are listed in `run.commands` today; write:\n  commands:\n" + "\n".join(lines)


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _plain(text: str) -> str:
    is_plain = text.isascii() and text[:1].isalpha() and all(c.isalnum() or c in " ._/-" for c in text)
    return text if is_plain and text.lower() not in _WORDS and len(text) <= 60 else quoted(text)


_WORDS = frozenset(["true", "false", "yes", "no", "on", "off", "null", "y", "n"])

_KEYS = {
    "build.destination": _destination,
    "build.commands": _commands,
    "run.process": _start,
    "run.start": _start,
    "run.stop": _stop,
    "run.command": _command,
}

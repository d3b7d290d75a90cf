"""What the deployment service refuses in a configuration, and where in the manifest that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pakman.errors import one_line
from pakman.problems import Problem
from pakman.validation.yaml_tree import Node, path_parts, path_text

_MOST = 50
"""Refusals that are read; a few say what is wrong."""

_DEEPEST = 20
"""Keys and numbers of a place."""

_ENVELOPES = {"configuration", "payload", "deployment", "data", "attributes"}
"""What the service may begin a place with: what stands around the manifest's keys in the request."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One value that is refused: its place, as the manifest has it (empty where it is none), and why."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{self.place} {self.message}".strip()

    @property
    def place(self) -> str:
        """The path as messages have it."""
        return one_line(path_text(list(self.path[:_DEEPEST])))


def read(content: Any) -> tuple[Refusal, ...]:
    """Return what an answer of status 422 refuses, whatever else is in it; none where it says nothing of the kind.

    The errors of a form lie in mappings and lists as the values do (`{"kits": [{"name": ["is too long"]}]}`, with `{}`
    for an item without any), or are a list of objects, each with its place and a message.
    """
    if not isinstance(content, dict):
        return ()
    found = content.get("errors")
    if found is None and isinstance(content.get("data"), dict):
        found = content["data"].get("errors")
    if found is None:
        found = next((content[key] for key in ("error", "detail", "message") if key in content), None)
    refusals: list[Refusal] = []
    for path, message in _walk(found, (), 0):
        refusals.append(Refusal(_inside(path), one_line(message)))
        if len(refusals) == _MOST:
            break
    return tuple(dict.fromkeys(refusals))


def problems(refused: Iterable[Refusal], root: Node | None, file: Path) -> list[Problem]:
    """Return each refusal as a problem at the manifest's line; at the nearest that there is, where it has not that.

    What is refused of the rest of a request has no line.
    """
    found = []
    for refusal in refused:
        if root is None or not refusal.path or root.child(refusal.path[0]) is None:
            continue
        line, column = _place(root, refusal.path)
        message = f"the deployment service refuses {refusal.place}: {refusal.message}"
        found.append(Problem(str(file), line, column, refusal.place, "error", "refused", message, ""))
    return sorted(found)


def _place(root: Node, path: tuple[str | int, ...]) -> tuple[int, int]:
    place = root
    for key, child in root.along(path):
        # Of what has lines of its own, the key is what one looks for.
        is_nested = child.is_mapping or child.is_list
        place = key if is_nested and key is not None else child
    return place.line, place.column


def _walk(found: Any, path: tuple[str | int, ...], depth: int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if depth > _DEEPEST:
        return
    if isinstance(found, str):
        yield path, found
    elif isinstance(found, dict):
        message = next((found[key] for key in ("detail", "message", "title") if isinstance(found.get(key), str)), None)
        place = _said_place(found)
        # A form may have fields of these names, too.
        if message is not None and (place is not None or (len(found) == 1 and not path)):
            yield path if place is None else place, message
            return
        for key, value in found.items():
            yield from _walk(value, (*path, *path_parts(str(key))), depth + 1)
    elif isinstance(found, list):
        is_items = any(isinstance(item, dict) and _said_place(item) is None for item in found)
        for index, item in enumerate(found):
            yield from _walk(item, (*path, index) if is_items and path else path, depth + 1)


def _said_place(found: dict[str, Any]) -> tuple[str | int, ...] | None:
    source = found.get("source")
    places = [source.get("pointer")] if isinstance(source, dict) else []
    places += [found.get(key) for key in ("path", "pointer", "field")]
    text = next((place for place in places if isinstance(place, str)), None)
    return None if text is None else path_parts(text)


def _inside(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    while path and path[0] in _ENVELOPES:
        path = path[1:]
    return path

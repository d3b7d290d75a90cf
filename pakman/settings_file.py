"""What stands in `.pakman.toml`, checked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pakman import stack
from pakman.errors import UsageError
from pakman.references import Problem, image_problem, line_problem, mirror_problem, registry_problem
from pakman.settings import Settings, StackSettings
from pakman.stack import Stack


def parse(text: str, file: Path) -> Settings:
    """Return what a file of this text says; raises UsageError saying what is wrong, where."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too large"
        raise UsageError(f"{file} is not TOML: {reason}", hint='a line reads `key = "value"`') from error
    return _File(text, file).settings(data)


class _File:
    """A file that is being checked: its text and its name, for what there is to say about it."""

    def __init__(self, text: str, file: Path) -> None:
        self._lines = text.splitlines()
        self._file = file

    def settings(self, data: Mapping[str, Any]) -> Settings:
        self._known(data, ("apk-mirrors", "image-registries", "stacks"), ())
        tables = self._tables(data.get("stacks", {}))
        return Settings(
            apk_mirrors=tuple(self._checked(data, "apk-mirrors", (), mirror_problem)),
            image_registries=tuple(self._checked(data, "image-registries", (), registry_problem)),
            by_stack={name: self._stack(name, table) for name, table in tables.items()},
            stacks=(*stack.STACKS, *(self._own(name, tables[name]) for name in tables if not is_alpine(name))),
        )

    def _tables(self, found: Any) -> dict[str, Mapping[str, Any]]:
        """Return the tables of the stacks by their stacks' whole names."""
        if not isinstance(found, dict):
            self._refuse((), "stacks", "must be a table", 'write [stacks."alpine/3.24"] and its keys in lines below')
        tables: dict[str, Mapping[str, Any]] = {}
        for name, table in found.items():
            known = stack.find(name)
            if known is None and (is_alpine(name) or not _STACK_NAME.fullmatch(name)):
                hint = "alpine/3.24 and the like, or a name for a stack of your own: acme/base"
                self._refuse(("stacks", name), "", "is no stack's name", hint)
            whole = name if known is None else known.name
            if not isinstance(table, dict):
                hint = f'write [stacks."{whole}"] and its keys in lines below'
                self._refuse(("stacks",), name, "must be a table", hint)
            if whole in tables:
                self._refuse(("stacks", name), "", f"is {whole} a second time", "write one table for it")
            own = () if known is not None else ("version",)
            self._known(table, (*own, "build-image", "run-image", "repositories"), ("stacks", name))
            tables[whole] = table
        return tables

    def _own(self, name: str, table: Mapping[str, Any]) -> Stack:
        """Return a stack of the user's own: Alpine of one version, by another name."""
        table_path = ("stacks", name)
        version = table.get("version")
        hint = 'write the Alpine version that it is, in quotes: version = "3.24"'
        if version is None:
            self._refuse(table_path, "", "has no version", hint)
        found = stack.find(version) if isinstance(version, str) else None
        if found is None:
            self._refuse(table_path, "version", "is no Alpine version that pakman knows", hint)
        return found._replace(name=name)

    def _stack(self, name: str, table: Mapping[str, Any]) -> StackSettings:
        path = ("stacks", name)
        return StackSettings(
            build_images=tuple(self._checked(table, "build-image", path, image_problem)),
            run_images=tuple(self._checked(table, "run-image", path, image_problem)),
            repositories=self._repositories(table, path),
        )

    def _repositories(self, table: Mapping[str, Any], path: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        key = "repositories"
        found = table.get(key, [])
        sets = found if isinstance(found, list) and found and all(isinstance(each, list) for each in found) else [found]
        checked = [self._checked({key: lines}, key, path, line_problem) for lines in sets if key in table]
        if any(not lines for lines in checked):
            self._refuse(path, key, "names no repository", "name one, or take the key out")
        return tuple(tuple(lines) for lines in checked)

    def _checked(
        self, table: Mapping[str, Any], key: str, path: tuple[str, ...], problem: Callable[[str], Problem | None]
    ) -> list[str]:
        """Return the texts, or the one text, of a key; each has to be without a problem."""
        found = table.get(key, [])
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self._refuse(path, key, "must be a text or a list of texts", f'write {key} = ["…", "…"]')
        for text in texts:
            if what := problem(text):
                self._refuse(path, key, f"has {text[:80]!r}, which {what[0]}", what[1])
        return [text.rstrip("/") for text in texts]

    def _known(self, table: Mapping[str, Any], known: Sequence[str], path: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                import difflib

                close = difflib.get_close_matches(key.replace("_", "-"), known, n=1, cutoff=0.6)
                hint = f"did you mean {close[0]}?" if close else f"known here are {', '.join(known)}"
                self._refuse(path, key, "is not known", hint)

    def _refuse(self, path: tuple[str, ...], key: str, what: str, hint: str) -> NoReturn:
        whole = (*path, *filter(None, [key]))
        place = f"{self._file}:{line}" if (line := self._line(whole)) else str(self._file)
        name = ".".join(f'"{part}"' if re.search(r"[^\w-]", part) else part for part in whole)
        raise UsageError(f"{place}: {name} {what}", hint=hint)

    def _line(self, path: tuple[str, ...]) -> int | None:
        """Return the line of a key, or of a table's header, where it is written the usual way: tomllib does not say."""
        key = re.compile(rf"\s*[\"']?{re.escape(path[-1])}[\"']?\s*[=.]")
        inside: tuple[str, ...] = ()
        for number, line in enumerate(self._lines, 1):
            if line.lstrip().startswith("["):
                inside = _header(line) or inside
                if inside == path:
                    return number
            elif inside == path[:-1] and key.match(line):
                return number
        return None


def _header(line: str) -> tuple[str, ...]:
    """Return the keys in a table's header, none for a line that is something else."""
    try:
        data = tomllib.loads(line)
    except ValueError:
        return ()
    keys: list[str] = []
    while isinstance(data, dict) and data:
        ((key, data),) = data.items()
        keys.append(key)
    return tuple(keys)


def is_alpine(name: str) -> bool:
    """Say whether a stack of this name is Alpine's and not the user's own."""
    return stack.find(name) is not None or name.partition("/")[0] == "alpine"


_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}/[a-z0-9][a-z0-9._-]{0,62}")

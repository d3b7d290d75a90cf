"""What is wrong where a manifest does not keep to its schema, in words that say what to write."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, validators

from pakman import names
from pakman.validation import familiar, old_dialect, programs
from pakman.validation.schema import Schema
from pakman.validation.yaml_reader import reading
from pakman.validation.yaml_tree import Fault, Node, path_text, quoted, shown


class _Violation(NamedTuple):
    """One place where a manifest does not keep to the schema."""

    path: list[str | int]
    keyword: str
    """The schema's keyword, e.g. `pattern`."""
    schema: Schema
    """The part of the schema that has this keyword."""
    value: Any
    """What breaks it: the value at `path`, or one of its keys."""
    is_key: bool


# To JSON Schema 8080.0 is an integer; to those who print it as a port it is none.
_INTEGERS = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_extend: Any = validators.extend
VALIDATOR: Any = _extend(Draft202012Validator, type_checker=_INTEGERS)
"""JSON Schema as a manifest is held against it."""


def _violations(schema: Schema, manifest: Any) -> Iterator[_Violation]:
    """Yield all that jsonschema finds."""
    for error in VALIDATOR(schema).iter_errors(manifest):
        is_key = "propertyNames" in error.absolute_schema_path
        yield _Violation(list(error.absolute_path), str(error.validator), error.schema, error.instance, is_key)


Words = tuple[str, str, str]
"""Code, message, hint."""


def explain(root: Node, schema: Schema) -> Iterator[Fault]:
    """Yield all the faults of a manifest that does not keep to its schema."""
    for violation in _violations(schema, root.value):
        yield from _explain(violation, root, schema)


def _explain(violation: _Violation, root: Node, schema: Schema) -> Iterator[Fault]:
    """Yield the faults of one violation, at the key or the value that they are about."""
    node: Node = root
    for part in violation.path:
        node = node.child(part) or node
    if violation.keyword == "additionalProperties":
        for key in node.entries:
            if key not in violation.schema["properties"]:
                yield _unknown_key(node, key, violation, schema, root)
        return
    if violation.is_key:
        path, node = [*violation.path, violation.value], node.keys[violation.value]
    else:
        path = violation.path
    if node.trapped:
        return
    if violation.keyword == "required":
        for key in violation.schema["required"]:
            if key not in node.entries:
                name = path_text(path)
                yield _fault(node, path, ("missing-key", f"`{name}` has no `{key}`", f"add `{key}:` to it"))
        return
    words = _WORDS[violation.keyword](violation, node, f"`{path_text(path)}`")
    yield _fault(node, path, words)


def near(text: str, words: Any) -> str | None:
    """Return the word that was most likely meant."""
    by_folded = {word.lower().replace("_", "-"): word for word in words}
    close = difflib.get_close_matches(text.lower().replace("_", "-")[:80], by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def _fault(node: Node, path: list[str | int], words: Words) -> Fault:
    code, message, hint = words
    return Fault(node.line, node.column, path_text(path), code, message, hint)


def _unknown_key(node: Node, key: str, violation: _Violation, schema: Schema, root: Node) -> Fault:
    path = [*violation.path, key]
    name = path_text(path)
    place, known = node.keys[key], violation.schema["properties"]
    above = _empty_above(path, schema, root)
    if above is not None:
        hint = f"`{key}` belongs under `{above}`: indent it there"
        return _fault(place, path, ("unknown-key", f"`{name}` is no key of a manifest", hint))
    elsewhere = familiar.hint(path, node.entries[key].value, root)
    if elsewhere is not None:
        return _fault(place, path, ("unknown-key", f"`{name}` is no key of a manifest", elsewhere))
    old = old_dialect.hint(name, node.entries[key], root)
    if old is not None:
        return _fault(place, path, ("old-key", f"`{name}` is how manifests were written years ago", old))
    if violation.path == ["hook"]:
        guess = near(key, known)
        hint = f"did you mean `{guess}`?" if guess else f"apk knows {', '.join(known)}"
        return _fault(place, path, ("unknown-hook", f"apk has no hook `{shown(key)}`", hint))
    return _fault(
        place, path, ("unknown-key", f"`{name}` is no key of a manifest", _key_hint(key, known, path, schema))
    )


def _empty_above(path: list[str | int], schema: Schema, root: Node) -> str | None:
    """Return the mapping of the top level that is empty, and that has the key at `path`: it is there, not indented."""
    if len(path) != 1:
        return None
    found = (name for name, part in schema["properties"].items() if path[0] in part.get("properties", {}))
    return next((name for name in found if name in root.entries and root.entries[name].value is None), None)


def _key_hint(key: str, known: Schema, path: list[str | int], schema: Schema) -> str:
    if len(path) > 1 and key in schema["properties"]:
        return f"`{key}` belongs at the top level: take its indentation away"
    guess = near(key, known)
    if guess is not None and guess.rstrip("s") == key.rstrip("s"):
        return f"did you mean `{path_text([*path[:-1], guess])}`?"
    for name, part in schema["properties"].items():
        if [name] != path[:-1] and key in part.get("properties", {}):
            return f"`{key}` belongs under `{name}`: indent it there"
    if guess is not None:
        return f"did you mean `{path_text([*path[:-1], guess])}`?"
    return f"known here are {', '.join(known)}"


_KINDS = {"string": "a text", "boolean": "true or false", "integer": "a whole number", "number": "a number"}
_KINDS |= {"array": "a list", "object": "a mapping"}


def _type(violation: _Violation, node: Node, name: str) -> Words:
    expected = violation.schema["type"]
    kinds = [expected] if isinstance(expected, str) else expected
    wanted = " or ".join(_KINDS[kind] for kind in kinds)
    value = violation.value
    if value is None:
        hint = (
            "write its value, or take the key out"
            if not violation.path or violation.path[-1] != 0
            else "write its value"
        )
        return "wrong-type", f"{name} is empty, and must be {wanted}", hint
    if "string" in kinds and isinstance(value, bool | int | float):
        written = node.plain or str(value)
        hint = f"put it in quotes: {quoted(written)}"
        if violation.path == ["stack"]:
            hint = f"write the stack's whole name: alpine/{shown(written)}"
        return "yaml-trap", f"{name} must be a text, and `{shown(written)}` is read as {reading(node)}", hint
    found = _found(value)
    return "wrong-type", f"{name} must be {wanted}, and is {found}", _type_hint(kinds, value, violation.path)


def _found(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else f"`{shown(str(value))}`"


def _type_hint(kinds: list[str], value: Any, path: list[str | int]) -> str:
    if path == ["test"] and isinstance(value, bool | str):
        return (
            "write what is to be done beyond pakman's own checks: `command: …` in the next line, indented; "
            "to ship without a test, give `pakman run` --no-test, or the action the input `test: false`"
        )
    if "array" in kinds and not isinstance(value, dict | list):
        return f"write it as a list, in a line of its own: - {value if isinstance(value, int) else quoted(str(value))}"
    if "array" in kinds and {"services", "commands"} & set(path[-1:]):
        named = next(iter(value), "web") if isinstance(value, dict) else "web"
        return f"it is a list, and names are values in it: begin each item with `- name: {shown(named)}`"
    if "array" in kinds:
        return "begin each of its items with `- `"
    if "object" in kinds and isinstance(value, list):
        return "write keys without `- `"
    if "object" in kinds and path[-1:] == ["start"] and isinstance(value, str) and value.isprintable():
        return f"write:\nstart:\n  call: {programs.scalar(value)}"
    if "object" in kinds:
        return "write `key: value` in the lines below it, indented"
    if "boolean" in kinds:
        return "write true or false, without quotes"
    if "integer" in kinds and isinstance(value, float):
        return "write it without a point"
    if ("integer" in kinds or "number" in kinds) and isinstance(value, str):
        return "write digits, without quotes"
    return "write one value, without `- ` and without keys"


def _enum(violation: _Violation, _node: Node, name: str) -> Words:
    known, value = violation.schema["enum"], violation.value
    words = ", ".join(known)
    found = _found(value) if not isinstance(value, str) else f"`{shown(value)}`"
    guess = (names.ARCHITECTURES_ELSEWHERE.get(value.lower()) or near(value, known)) if isinstance(value, str) else None
    hint = f"did you mean `{guess}`?" if guess in known else f"write {words if len(known) == 1 else 'one of ' + words}"
    if violation.path == ["type"] and guess not in known:
        hint = (
            "take it out where a program is to run, whatever it is written in; "
            "static is for files that nginx serves, custom for what a script of yours packs"
        )
    if known == ["root"]:
        hint = "write root, or leave it out for the package's own user"
    return "bad-value", f"{name} cannot be {found}", hint


def _pattern(violation: _Violation, _node: Node, name: str) -> Words:
    return PATTERNS[violation.schema["title"]](violation.value, name)


def _package(text: str, name: str) -> Words:
    message = f"{name} cannot be {quoted(text)}: letters, digits and . _ - make such a name"
    return "bad-name", message, _nearest(names.nearest_package(text))


def _command(text: str, name: str) -> Words:
    message = f"{name} cannot be {quoted(text)}: letters, digits, _ and - make such a name, a letter first"
    return "bad-name", message, _nearest(names.nearest_command(text))


def _variable(text: str, name: str) -> Words:
    message = f"{name} is no name for a variable: it has letters, digits and _ in it, and begins with no digit"
    return "bad-name", message, _nearest(names.nearest_variable(text))


def _dependency(text: str, name: str) -> Words:
    message = f"{name} is {quoted(text)}, which is not how apk names a package"
    if len(text.split()) > 1 and not any(sign in text for sign in "<>=~"):
        return (
            "bad-dependency",
            message,
            "write one item for each: " + ", ".join(f"- {shown(w)}" for w in text.split()[:4]),
        )
    return "bad-dependency", message, _nearest(names.nearest_dependency(text))


def _nearest(text: str) -> str:
    return f"the nearest that works is {quoted(text)}" if text else "write a name"


def _binary(text: str, name: str) -> Words:
    directory, slash, file = text.rpartition("/")
    if text.startswith("/") and slash and file:
        hint = f"write `path: {shown(directory) or '/'}` and `binary: {shown(file)}`"
        return "bad-path", f"{name} is a whole path, and must be a file's name", hint
    return "bad-path", f"{name} is no file's name", "write the program's file name"


def _directory(text: str, name: str) -> Words:
    hint = f"write '/{shown(text.strip().lstrip('/'))}', or leave it out for /var/lib/NAME/bin"
    return "bad-path", f"{name} must be a directory that begins with /", hint


def _one_line(_text: str, name: str) -> Words:
    return "bad-value", f"{name} has more than one line", "write it in one line, without `|`"


def _url(text: str, name: str) -> Words:
    return (
        "bad-value",
        f"{name} is no address of a page",
        f"write it with its scheme: {quoted('https://' + text.strip())}",
    )


def _maintainer(_text: str, name: str) -> Words:
    return "bad-value", f"{name} must be a name and an address", "write it as: Ada Lovelace <ada@example.com>"


PATTERNS: dict[str, Callable[[str, str], Words]] = {
    "A dependency": _dependency,
    "A package's name": _package,
    "A service's name": _package,
    "A command's name": _command,
    "A variable's name": _variable,
    "The program": _binary,
    "The program's directory": _directory,
    "The arguments": _one_line,
    "The process id's file": _one_line,
    "Command": _one_line,
    "A test's value": _one_line,
    "Description": _one_line,
    "License": _one_line,
    "URL": _url,
    "Maintainer": _maintainer,
}
"""By the title of the part of the schema that has the pattern."""


def _too_short(_violation: _Violation, _node: Node, name: str) -> Words:
    return "empty-value", f"{name} is empty", "write its value, or take it out"


def _too_long(violation: _Violation, _node: Node, name: str) -> Words:
    limit, length = violation.schema["maxLength"], len(violation.value)
    message = f"{name} has {length} characters, and {limit} are the most"
    if violation.schema["title"] == "A package's name":
        return "bad-name", message, _nearest(names.nearest_package(violation.value))
    return "bad-value", message, "make it shorter"


def _range(violation: _Violation, _node: Node, name: str) -> Words:
    low, high = violation.schema["minimum"], violation.schema.get("maximum")
    limits = f"from {low} to {high}" if high is not None else f"{low} or more"
    return "bad-value", f"{name} cannot be {violation.value}", f"write a number {limits}"


_WORDS: dict[str, Callable[[_Violation, Node, str], Words]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "minLength": _too_short,
    "minItems": _too_short,
    "maxLength": _too_long,
    "minimum": _range,
    "maximum": _range,
}

"""The manifest's schema, and whether a manifest keeps to it.

jsonschema says what is wrong. Importing it takes eight times as long as starting Python, and most manifests are right:
`accepts` says so first, for the keywords that this schema uses, and a test holds the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

_FILE = Path(__file__).parents[1] / "schemas/instellar.schema.json"


def load() -> Schema:
    """Return schemas/instellar.schema.json."""
    schema: Schema = json.loads(_FILE.read_text(encoding="utf-8"))
    return schema


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}
_ANNOTATIONS = frozenset(("title", "description", "examples", "default", "$schema", "$id", "$defs", "properties"))


def accepts(schema: Schema, manifest: Any) -> bool:
    """Say whether a manifest surely keeps to the schema; where it has a keyword not known here, the answer is no."""
    return _accepts(schema, manifest, schema)


def _accepts(part: Schema, value: Any, root: Schema) -> bool:
    for keyword, expected in part.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword == "$ref":
            if not _accepts(root["$defs"][expected.removeprefix("#/$defs/")], value, root):
                return False
        elif keyword not in _KEYWORDS or not _KEYWORDS[keyword](expected, value):
            return False
    if isinstance(value, dict):
        return _accepts_entries(part, value, root)
    if isinstance(value, list) and "items" in part:
        return all(_accepts(part["items"], item, root) for item in value)
    return True


def _accepts_entries(part: Schema, value: dict[str, Any], root: Schema) -> bool:
    properties, others, names = (
        part.get("properties", {}),
        part.get("additionalProperties", {}),
        part.get("propertyNames"),
    )
    for key, entry in value.items():
        if names is not None and not _accepts(names, key, root):
            return False
        if key in properties:
            if not _accepts(properties[key], entry, root):
                return False
        elif others is False or not _accepts(others, entry, root):
            return False
    return True


def _is_type(expected: str | list[str], value: Any) -> bool:
    names = [expected] if isinstance(expected, str) else expected
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES.get(name, ())) for name in names)


def _matches(pattern: str, value: Any) -> bool:
    return not isinstance(value, str) or re.search(pattern, value) is not None


_KEYWORDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_type,
    "enum": lambda expected, value: isinstance(value, str) and value in expected,
    "pattern": _matches,
    "required": lambda expected, value: not isinstance(value, dict) or all(key in value for key in expected),
    "minLength": lambda expected, value: not isinstance(value, str) or len(value) >= expected,
    "maxLength": lambda expected, value: not isinstance(value, str) or len(value) <= expected,
    "minItems": lambda expected, value: not isinstance(value, list) or len(value) >= expected,
    "minimum": lambda expected, value: not isinstance(value, int | float) or value >= expected,
    "maximum": lambda expected, value: not isinstance(value, int | float) or value <= expected,
    # These speak of the values inside, and are asked there.
    "items": lambda _expected, _value: True,
    "additionalProperties": lambda _expected, _value: True,
    "propertyNames": lambda _expected, _value: True,
}

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pakman import manifest, version
from pakman.stack import STACKS
from pakman.validation import explanations, schema
from tests.manifests import FULL, LEAST, changed, trees

SCHEMA = schema.load()


def _parts(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every subschema with the way to it."""
    if "$ref" in part:
        return
    yield path, part
    for name in ("properties", "$defs"):
        for key, inner in part.get(name, {}).items():
            yield from _parts(inner, f"{path}/{key}")
    for name in ("items", "propertyNames", "additionalProperties"):
        if isinstance(part.get(name), dict):
            yield from _parts(part[name], f"{path}/{name}")


PARTS = dict(_parts(SCHEMA))


def test_it_is_a_schema_of_its_draft() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", PARTS)
def test_every_key_has_title_description_and_examples_that_are_valid(path: str) -> None:
    part = PARTS[path]
    assert part["title"]
    assert part["description"].endswith(".")
    assert part["examples"]
    validator: Any = Draft202012Validator
    for value in part["examples"]:
        assert list(validator({**part, "$defs": SCHEMA["$defs"]}).iter_errors(value)) == []


def test_the_schema_that_is_installed_is_the_one_in_schemas() -> None:
    file = Path(__file__).parents[1] / "schemas/instellar.schema.json"
    assert json.loads(file.read_text()) == SCHEMA


def test_every_key_of_a_manifest_is_in_the_schema_and_the_other_way_round() -> None:
    assert set(SCHEMA["properties"]) == set(manifest.Manifest.__dataclass_fields__)
    assert set(SCHEMA["properties"]["build"]["properties"]) == set(manifest.Build.__dataclass_fields__)
    assert set(SCHEMA["properties"]["run"]["properties"]) == set(manifest.Run.__dataclass_fields__)
    assert set(SCHEMA["properties"]["test"]["properties"]) == set(manifest.Test.__dataclass_fields__)
    assert set(SCHEMA["properties"]["hook"]["properties"]) == set(manifest.HOOKS)


def test_every_pattern_has_words_for_what_breaks_it() -> None:
    assert {part["title"] for part in PARTS.values() if "pattern" in part} == set(explanations.PATTERNS)


def test_no_pattern_takes_a_line_break_at_the_end() -> None:
    for path, part in PARTS.items():
        for value in part["examples"] if "pattern" in part else ():
            assert not Draft202012Validator({"pattern": part["pattern"]}).is_valid(f"{value}\n"), path


def _is_valid(data: Any) -> bool:
    return bool(explanations.VALIDATOR(SCHEMA).is_valid(data))


@pytest.mark.parametrize("text", [FULL, LEAST])
def test_what_is_right_is_accepted_without_jsonschema(text: str) -> None:
    assert schema.accepts(SCHEMA, yaml.safe_load(text))


@given(st.one_of(changed(), trees))
def test_what_is_accepted_is_what_jsonschema_accepts(data: Any) -> None:
    assert schema.accepts(SCHEMA, data) == _is_valid(data)


def test_a_keyword_that_is_not_known_is_never_accepted() -> None:
    assert not schema.accepts({"oneOf": [True]}, "anything")
    assert not schema.accepts({"enum": [1]}, 1)


@given(st.from_regex(r"[!]?[a-z0-9._+-]{1,8}(([<>=~]{1,2})[0-9a-z._-]{0,6})?", fullmatch=True))
def test_the_nearest_dependency_is_one(word: str) -> None:
    from pakman import names
    from pakman.validation import checks
    from pakman.validation.yaml_reader import parse

    nearest = names.nearest_dependency(word)
    if nearest:
        data = {"dependencies": {"build": [nearest]}, "build": {"destinations": ["dist"]}}
        assert schema.accepts(SCHEMA, data)
        root, _ = parse(json.dumps(data))
        assert root is not None
        assert list(checks.errors(root, STACKS)) == []
    assert version.is_valid("1")


@pytest.mark.parametrize("path", [path for path, part in PARTS.items() if "pattern" in part])
@pytest.mark.parametrize("filler", ["a", "a ", "1.", "-", "/", "@", " <", "a@"])
def test_no_pattern_takes_long_over_a_long_text(path: str, filler: str) -> None:
    pattern = re.compile(PARTS[path]["pattern"])
    start = time.monotonic()
    for begin in ("", "http://", "a <a"):
        pattern.search(begin + filler * (100_000 // len(filler)) + '\n"')
    assert time.monotonic() - start < 1

"""What a built repository says of itself, read back; it may be another job's artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pakman import repository
from pakman.errors import UsageError
from tests import repositories


def test_what_is_written_is_read(tmp_path: Path) -> None:
    built = repositories.repository(tmp_path, {"notes": b"one", "notes-openrc": b"two"})
    other = repositories.repository(tmp_path, {"notes": b"one"}, arch="aarch64", commit=None, is_throwaway_key=True)
    assert repository.read(tmp_path) == (other, built)


def test_the_previous_key_comes_second(tmp_path: Path) -> None:
    built = repositories.repository(tmp_path, {"notes": b"one"}, previous_key_name="acme-old.rsa.pub")
    assert repository.read(tmp_path) == (built,)
    assert [path.name for path in built.public_keys] == ["acme-notes.rsa.pub", "acme-old.rsa.pub"]


def test_what_was_built_before_there_were_previous_keys_is_read(tmp_path: Path) -> None:
    built = repositories.repository(tmp_path, {"notes": b"one"})
    content = json.loads(built.manifest_file.read_text())
    del content["previous_key_name"]
    built.manifest_file.write_text(json.dumps(content))
    assert repository.read(tmp_path) == (built,)


def _changed(**changes: object) -> Callable[[dict[str, Any]], str]:
    return lambda content: json.dumps({**content, **changes})


def _package(**changes: object) -> Callable[[dict[str, Any]], str]:
    return lambda content: json.dumps({**content, "packages": [{**content["packages"][0], **changes}]})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: "", "Expecting value"),
        (lambda _: "[]", "list indices"),
        (lambda _: "{}", "'arch' is missing"),
        (lambda _: "[" * 100_000, "recursion"),
        (lambda _: '"' + "x" * 5_000_000, "Unterminated string"),
        (_changed(packages={"a": 1}), "indices must be"),
        (_changed(owner="a/b"), "'a/b' is not a name"),
        (_changed(slug=".."), "'..' is not a name"),
        (_changed(key_name="a b"), "'a b' is not a name"),
        (_changed(previous_key_name="../x"), "'../x' is not a name"),
        (_package(name="$(touch x)"), "'$(touch x)' is not a name"),
        (_package(version="1\n::add-mask::a"), "is not a name"),
        (_package(sha256=""), "'' is not a name"),
        (_changed(builder={"name": None, "pakman": 1}), "'None' is not a name"),
        (_package(size="many"), "'many' is not a size"),
        (_package(size=float("inf")), "'inf' is not a size"),
        (_package(size=-1), "'-1' is not a size"),
        (_package(name="x" * 256), "is not a name"),
        (_changed(stack="alpine/3.23\n::add-mask::a"), "is not a name"),
    ],
)
def test_what_is_not_ours_is_one_sentence(tmp_path: Path, change: Callable[[dict[str, Any]], str], reason: str) -> None:
    file = repositories.repository(tmp_path, {"notes": b"one"}).manifest_file
    file.write_text(change(json.loads(file.read_text())))
    with pytest.raises(UsageError) as raised:
        repository.read(tmp_path)
    assert raised.value.message.startswith(f"{file} is not what `pakman build` writes (")
    assert reason in raised.value.message


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x86_64/packages.json").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"x86_64/packages\.json cannot be read: Is a directory"):
        repository.read(tmp_path)
    with pytest.raises(UsageError, match="holds no built repository") as raised:
        repository.read(tmp_path / "nowhere")
    assert raised.value.hint.startswith("name what `pakman build --output` was given, or run")

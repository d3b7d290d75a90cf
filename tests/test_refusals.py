"""What the deployment service refuses is found in the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from pakman import refusals, validation
from pakman.refusals import Refusal
from tests.manifests import TODAY
from tests.test_instellar import JSON

MANIFEST = """\
stack: alpine/3.23
build:
  destinations: [public]
kits:
  - name: web
    main: true
    ports:
      - name: web
        main: true
        target: 3000
      - {name: admin, target: 4000}
  - name: worker
plans:
  - name: basic
"""


@pytest.mark.parametrize(
    ("errors", "path", "message"),
    [
        ({"kits": [{"ports": [{}, {"target": ["is taken"]}]}]}, ("kits", 0, "ports", 1, "target"), "is taken"),
        ({"payload": {"kits": [{}, {"name": ["is too long"]}]}}, ("kits", 1, "name"), "is too long"),
        ({"configuration": {"kits": ["can't be blank"]}}, ("kits",), "can't be blank"),
        ({"kits": {"1": {"name": "is taken"}}}, ("kits", 1, "name"), "is taken"),
        ({"kits[0].ports.1.target": ["is taken"]}, ("kits", 0, "ports", 1, "target"), "is taken"),
        ([{"detail": "no", "source": {"pointer": "/data/attributes/kits/0/name"}}], ("kits", 0, "name"), "no"),
        ([{"path": "kits.0", "message": "no"}], ("kits", 0), "no"),
        ({"detail": "Unprocessable\nEntity"}, (), "Unprocessable Entity"),
        ("no\x1b[2J", (), "no?[2J"),
    ],
)
def test_errors_are_read_however_they_are_written(errors: Any, path: tuple[str | int, ...], message: str) -> None:
    for content in ({"errors": errors}, {"data": {"errors": errors}}, {"error": errors}, {"message": errors}):
        assert refusals.read(content) == (Refusal(path, message),)


@pytest.mark.parametrize("content", [None, [], "x", {}, {"errors": None}, {"errors": 3}, {"data": []}])
def test_what_says_nothing_refuses_nothing(content: Any) -> None:
    assert refusals.read(content) == ()


@given(JSON)
def test_any_answer_is_read(content: Any) -> None:
    for refusal in (*refusals.read(content), *refusals.read({"errors": content})):
        assert str(refusal).isprintable()


def test_no_more_is_read_than_a_person_would() -> None:
    deep: Any = "no"
    for _ in range(500):
        deep = {"kits": deep}
    assert refusals.read({"errors": deep}) == ()
    assert len(refusals.read({"errors": {"kits": [{"name": [str(number)]} for number in range(9999)]}})) == 50
    (said,) = refusals.read({"errors": {"kits." * 200: {"a.b" * 300: ["must be one of " + "a, b or " * 9999]}}})
    assert len(str(said)) < 700
    sentence = "must be one of small, medium and large, in a region that this organization has installed something in"
    assert refusals.read({"errors": {"sizes": [sentence]}})[0].message == sentence
    # White space counts for nothing, however much of it there is.
    assert refusals.read({"errors": {"sizes": [sentence.replace(" ", " " * 300)]}})[0].message == sentence


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("kits", 0, "ports", 0, "target"), 10, 17),
        (("kits", 0, "ports", 1, "target"), 11, 31),
        (("kits", 0, "ports"), 7, 5),
        (("kits", 1), 12, 5),
        (("kits", 1, "ports", 3, "target"), 12, 5),
        (("plans", 0, "name"), 14, 11),
    ],
)
def test_a_refusal_is_a_problem_at_its_line(
    tmp_path: Path, path: tuple[str | int, ...], line: int, column: int
) -> None:
    file = tmp_path / "instellar.yml"
    file.write_text(MANIFEST)
    verdict = validation.validate(file, repository=None, today=TODAY)
    assert verdict.valid
    (problem,) = refusals.problems([Refusal(path, "is taken")], verdict.root, file)
    assert (problem.line, problem.column) == (line, column)
    assert problem.message.endswith(": is taken")
    assert problem.severity == "error"
    others = [Refusal(("sizes", 0), "is missing"), Refusal((), "no"), Refusal(("ref",), "is taken")]
    assert refusals.problems(others, verdict.root, file) == []

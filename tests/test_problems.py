from __future__ import annotations

import json

import pytest

from pakman import problems
from pakman.problems import Problem


def _problem(line: int, column: int, hint: str = "") -> Problem:
    return Problem("instellar.yml", line, column, "run.name", "error", "bad-name", "this cannot be.", hint)


def test_text_shows_place_line_caret_and_hint() -> None:
    text = problems.text([_problem(2, 9, "write:\n  name: shop")], "run:\n  name: My Shop\n")
    assert text.split("\n") == [
        "instellar.yml:2:9: error: this cannot be. [bad-name]",
        "    2 |   name: My Shop",
        "      |         ^",
        "  hint: write:",
        "          name: shop",
    ]


@pytest.mark.parametrize(
    ("source", "column", "padding"),
    [
        ("a:\tb", 4, "  \t"),
        ("日本: x", 5, " " * 6),
        ("e\u0301: x", 5, " " * 3),
        ("a: x", 1, ""),
        ("a: x", 5, " " * 4),
    ],
)
def test_the_caret_is_below_its_character(source: str, column: int, padding: str) -> None:
    assert problems.text([_problem(1, column)], source).split("\n")[2] == f"      | {padding}^"


def test_a_terminal_is_shown_nothing_that_it_obeys() -> None:
    text = problems.text([_problem(1, 4)], "a: \x1b[31m\x9b")
    assert "\x1b" not in text
    assert "\x9b" not in text


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    source = "a" * 500 + "HERE" + "b" * 500
    shown, caret = problems.text([_problem(1, 501)], source).split("\n")[1:]
    assert len(shown) < 200
    assert shown[caret.index("^") :].startswith("HERE")


def test_a_line_without_anything_is_not_shown() -> None:
    assert problems.text([_problem(2, 1)], "a: 1\n") == "instellar.yml:2:1: error: this cannot be. [bad-name]"
    assert problems.text([_problem(7, 1)], "") == "instellar.yml:7:1: error: this cannot be. [bad-name]"


def test_several_are_apart() -> None:
    assert problems.text([_problem(1, 1), _problem(2, 1)], "a\nb").count("\n\n") == 1
    assert problems.text([], "a") == ""


def test_json_is_a_list_of_exactly_the_fields() -> None:
    assert json.loads(problems.json([_problem(2, 9, "é")])) == [
        {
            "file": "instellar.yml",
            "line": 2,
            "column": 9,
            "path": "run.name",
            "severity": "error",
            "code": "bad-name",
            "message": "this cannot be.",
            "hint": "é",
        }
    ]
    assert json.loads(problems.json([])) == []


def test_problems_sort_by_place() -> None:
    assert sorted([_problem(10, 1), _problem(9, 2), _problem(9, 1)]) == [
        _problem(9, 1),
        _problem(9, 2),
        _problem(10, 1),
    ]

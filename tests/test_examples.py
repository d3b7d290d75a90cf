"""Every example is valid, and its recipe is, file for file, the golden one; `--update-golden` writes those anew."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pakman import manifest, recipe
from pakman.project import Project

TOP = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in TOP.glob("examples/*/instellar.yml"))
GOLDEN = TOP / "tests/golden"
TODAY = datetime.date(2026, 11, 21)


def read(example: Path) -> manifest.Manifest:
    reading = manifest.read(example / "instellar.yml", repository=example.name, today=TODAY)
    assert reading.problems == ()
    assert reading.manifest is not None
    return reading.manifest


def compose(example: Path) -> recipe.Recipe:
    project = Project(
        "acme", example.name, example.name, "c0ffee" * 6 + "cafe", 1_767_225_600, "1.2.3", 4, "tag v1.2.3"
    )
    # Any checksum does: the snapshot's bytes are test_snapshot's matter.
    return recipe.compose(read(example), project, snapshot_sha512="0" * 128)


def test_there_are_examples() -> None:
    assert {"hello-web", "hello-static", "notes"} <= {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_recipe_is_the_golden_one(example: Path, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN / example.name
    files = {file.name: file.content for file in compose(example).files}
    if request.config.getoption("--update-golden"):
        golden.mkdir(parents=True, exist_ok=True)
        for path in golden.iterdir():
            path.unlink()
        for name, content in files.items():
            (golden / name).write_text(content)
    assert {path.name: path.read_text() for path in golden.iterdir()} == files


def test_no_golden_recipe_is_without_its_example() -> None:
    assert {path.name for path in GOLDEN.iterdir() if path.is_dir()} == {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_says_what_it_is(example: Path) -> None:
    said = read(example)
    assert said.stack == "alpine/3.23"
    assert said.description
    assert said.license
    assert said.url
    assert (example / "README.md").read_text().startswith(f"# {example.name}\n")
    assert said.run is not None
    assert said.run.name == example.name

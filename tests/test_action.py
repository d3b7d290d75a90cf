"""action.yml says what the program does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pakman import arguments, inputs, outputs
from pakman.channels.adding import Joined
from pakman.checks import Check
from pakman.deploy import Deployed
from pakman.publish import Publication
from pakman.release import Release
from pakman.test_report import Report
from tests.repositories import repository

TOP = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((TOP / "action.yml").read_text())
FLAGS = {name for command in inputs.COMMANDS for name in arguments.flags(command)}


def test_inputs_are_the_flags_of_the_command_line() -> None:
    assert tuple(ACTION["inputs"]) == inputs.NAMES
    assert set(ACTION["inputs"]) - FLAGS == {"command", "config", *inputs.SECRETS} - {
        "signing-key",
        "previous-signing-key",
    }
    # What is no input: what is of no use in a job, what the entrypoint says itself, what .pakman.toml is for.
    said_elsewhere = {"help", "format", "output", "keep", "rootfs", "mirror", "build-image", "online", "no-test"}
    assert FLAGS - set(ACTION["inputs"]) == said_elsewhere


@pytest.mark.parametrize("name", inputs.NAMES)
def test_an_input_says_its_default_and_whether_it_is_secret(name: str) -> None:
    description = ACTION["inputs"][name]["description"]
    assert ". Default: " in description or "). Default: " in description
    assert description.startswith("Secret. ") == (name in inputs.SECRETS)
    # Absent and empty are the same: nothing is set that the command line would have to know as well.
    assert ACTION["inputs"][name] == {"description": description, "required": False}


README = (TOP / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading of the README, without its head."""
    section = README.split(f"### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_readme_has_the_same_inputs() -> None:
    assert rows("Inputs") == [
        [f"`{name}`", *ACTION["inputs"][name]["description"].rsplit(" Default: ", 1)] for name in ACTION["inputs"]
    ]


def test_the_readme_has_the_same_outputs() -> None:
    assert rows("Outputs") == [[f"`{name}`", ACTION["outputs"][name]["description"]] for name in ACTION["outputs"]]


def test_outputs_are_what_a_run_writes(tmp_path: Path) -> None:
    publication = Publication("path", "url", "path", "url", (), ())
    results = outputs.Results(
        workspace=tmp_path,
        repositories=(repository(tmp_path / "packages", {"notes": b"any"}),),
        publication=publication,
        joined=Joined("stable", "path", "url", "url", (), ()),
        report=Report("notes", "1.0.0-r0", "x86_64", "alpine/3.23", "the sandbox", (Check("it installs", "passed"),)),
        report_file=tmp_path / "packages/x86_64/test-report.xml",
        deployment=Deployed("7", "created", "archives/x/packages.zip"),
        deployment_status="created",
        release=Release("path", "url", b"{}", "archives/x/packages.zip", (), publication, None, was_there=False),
    )
    assert set(results.outputs()) == set(ACTION["outputs"])


def test_the_readme_s_workflow_is_one_that_works() -> None:
    workflow = yaml.safe_load(README.split("```yaml\n")[1].split("```")[0])
    package, install = workflow["jobs"]["package"], workflow["jobs"]["install"]
    checkout, step = package["steps"]
    assert checkout["with"]["fetch-depth"] == 0
    assert set(step["with"]) <= set(ACTION["inputs"])
    for name, value in package["outputs"].items():
        assert value == f"${{{{ steps.{step['id']}.outputs.{name} }}}}"
        assert name in ACTION["outputs"]
    read = set(re.findall(r"needs\.package\.outputs\.([a-z-]+)", README))
    assert read == set(package["outputs"])
    assert install["needs"] == "package"


def test_it_runs_in_a_container_without_arguments() -> None:
    # Arguments are printed in the job's log.
    assert ACTION["runs"] == {"using": "docker", "image": "Dockerfile"}


def test_commands_are_those_that_the_description_names() -> None:
    text = ACTION["inputs"]["command"]["description"]
    assert set(re.findall(r"\b(run|validate|generate|build|push|release|deploy)\b", text)) == set(inputs.COMMANDS)

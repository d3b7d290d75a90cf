"""action.yml says what the program does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pakman import arguments, inputs

TOP = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((TOP / "action.yml").read_text())
FLAGS = {name for command in inputs.COMMANDS for name in arguments.flags(command)}


def test_inputs_are_the_flags_of_the_command_line() -> None:
    assert tuple(ACTION["inputs"]) == inputs.NAMES
    assert set(ACTION["inputs"]) - FLAGS == {"command", "config", *inputs.SECRETS} - {"signing-key"}
    # What is no input: what is of no use in a job, what the entrypoint says itself, what .pakman.toml is for.
    said_elsewhere = {"help", "format", "output", "keep", "rootfs", "mirror", "build-image"}
    assert FLAGS - set(ACTION["inputs"]) == said_elsewhere


@pytest.mark.parametrize("name", inputs.NAMES)
def test_an_input_says_its_default_and_whether_it_is_secret(name: str) -> None:
    description = ACTION["inputs"][name]["description"]
    assert ". Default: " in description or "). Default: " in description
    assert description.startswith("Secret. ") == (name in inputs.SECRETS)
    # Absent and empty are the same: nothing is set that the command line would have to know as well.
    assert ACTION["inputs"][name] == {"description": description, "required": False}


def test_it_runs_in_a_container_without_arguments() -> None:
    # Arguments are printed in the job's log.
    assert ACTION["runs"] == {"using": "docker", "image": "Dockerfile"}


def test_commands_are_those_that_the_description_names() -> None:
    text = ACTION["inputs"]["command"]["description"]
    assert set(re.findall(r"\b(run|validate|generate|build|push)\b", text)) == set(inputs.COMMANDS)

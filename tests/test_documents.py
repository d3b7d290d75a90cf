"""README, changelog, schema and `--help` say the same thing."""

from __future__ import annotations

import argparse
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from pakman import __version__, arguments, cli, errors, manifest, service, stack
from tests.manifests import TODAY
from tests.test_examples import EXAMPLES

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
APPLICATIONS = re.findall(r"```yaml\n(.*?)```", README.split("## Your application")[1].split("\n## ")[0], re.DOTALL)
HELP = arguments.parser().format_help()


def rows(text: str) -> list[str]:
    """Return the first cells of all table rows."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands of a parser, none where it is one itself."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def commands() -> dict[str, str]:
    """Return each command of the parser, by its words, with its whole help."""
    found: dict[str, str] = {}
    for name, command in below(arguments.parser()).items():
        found |= {f"{name} {action}": each.format_help() for action, each in below(command).items()}
        found[name] = command.format_help()
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme(command: str) -> None:
    assert any(row.startswith(f"`pakman {command}") for row in rows(README))


@pytest.mark.parametrize("command", below(arguments.parser()))
def test_a_command_is_the_same_by_itself(command: str) -> None:
    ((name, alone),) = below(arguments.parser(command)).items()
    assert name == command
    assert alone.format_help() == commands()[command]


def test_the_readme_names_no_other_command() -> None:
    named = set(re.findall(r"(?:^|`)pakman ([a-z]+)", README, re.MULTILINE))
    assert named == {name.partition(" ")[0] for name in commands()}


def test_every_flag_in_the_readme_exists() -> None:
    everything = HELP + "".join(commands().values())
    text = README
    for application in APPLICATIONS:  # npm's flags and bundler's
        text = text.replace(application, "")
    for flag in set(re.findall(r"--[a-z][a-z-]+", text)):
        assert flag in everything, flag


def test_the_readme_has_every_key_of_the_manifest() -> None:
    schema = json.loads((TOP / "schemas/instellar.schema.json").read_text())
    section = README.split("## The manifest")[1].split("### ")[0]
    documented = {key for row in rows(section) for key in re.findall(r"`([a-z_]+)`", row)}
    assert documented == set(schema["properties"])


@pytest.mark.parametrize("text", APPLICATIONS, ids=["node", "rails", "python", "go", "static"])
def test_every_manifest_in_the_readme_is_right(tmp_path: Path, text: str) -> None:
    file = tmp_path / "instellar.yml"
    file.write_text(text)
    reading = manifest.read(file, repository=None, today=TODAY)
    assert reading.problems == ()
    assert reading.manifest is not None
    # Its programs are its own where the text says that they are.
    name = reading.manifest.run.name if reading.manifest.run is not None else None
    for program in service.own_programs(reading.manifest, name or ""):
        assert Path(program).name in ("jobs", "rails", "notes")


def test_every_manifest_to_begin_with_is_for_what_builds_anywhere() -> None:
    first = stack.to_begin_with(TODAY)
    assert first.name == stack.EVERYWHERE
    texts = [*APPLICATIONS, *(file.read_text() for file in (TOP / "examples").glob("*/instellar.yml"))]
    assert {yaml.safe_load(text)["stack"] for text in texts} == {first.name}
    assert set(re.findall(r"alpine[:/]v?(3\.\d+)", README)) == {first.version}
    assert f"unpacks on this machine, entered with bubblewrap or chroot | {first.version};" in README


@pytest.mark.parametrize("text", [HELP, *commands().values()], ids=["pakman", *commands()])
def test_help_fits_a_terminal_of_80_columns(text: str) -> None:
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_where_a_package_is_tested_is_said_the_same_everywhere() -> None:
    usual = "auto, which is the first of them that has the stack's Alpine"
    (row,) = (line for line in README.splitlines() if line.startswith("| `run-root`"))
    assert f" {usual} |" in row
    for text in (commands()["test"], commands()["run"], (TOP / "action.yml").read_text()):
        assert usual in " ".join(text.split())
    assert "`auto`, the default, is the first of them that has the stack's Alpine" in README


def test_a_first_package_is_tested_too() -> None:
    first = HELP.split("A first package")[1].split("\n\n")[0]
    assert [words.split()[1] for words in first.splitlines()[1:]] == ["validate", "build", "test"]


def test_exit_codes_are_the_same_everywhere() -> None:
    codes = {0, 1, 128 + signal.SIGPIPE, *(128 + number for number in cli._STOPS)} | {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.PakmanError)
    }
    assert {int(row) for row in rows(README) if row.isdigit()} == codes
    assert {
        int(code) for code in re.findall(r"(?:^|\s{2})(\d+) [a-z]", HELP.split("exit codes:")[1], re.MULTILINE)
    } == codes


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__


def test_the_image_in_the_readme_is_this_version_s() -> None:
    assert set(re.findall(r"ghcr\.io/OWNER/pakman:(\S+)", README)) == {__version__}


@pytest.mark.parametrize(
    "path",
    [TOP / "README.md", TOP / ".github/workflows/package.yml", *(each / "README.md" for each in EXAMPLES)],
    ids=lambda path: path.parent.name,
)
def test_the_tag_in_a_snippet_is_one_that_this_version_moves(path: Path) -> None:
    tags = re.findall(r"uses: OWNER/pakman(?:/\S+)?@(\S+)", path.read_text())
    assert set(tags) == {f"v{__version__.partition('.')[0]}"}


def test_nothing_names_a_registry_or_an_index() -> None:
    for path in [*TOP.glob("requirements*.lock"), TOP / "Makefile", TOP / "README.md", TOP / "pyproject.toml"]:
        assert not re.search(r"(index-url|find-links|https?://(?![a-z0-9]+\.example))", path.read_text()), path.name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_examples_readme_says_of_its_manifest_what_is_in_it(example: Path) -> None:
    section = (example / "README.md").read_text().split("## The manifest, line by line\n")[1].split("\n## ")[0]
    wanted = yaml.safe_load((example / "instellar.yml").read_text())
    for path in re.findall(r"`([a-z_]+(?:\.[a-z_-]+)+)\b", "\n".join(rows(section))):
        first, *rest = path.split(".")
        # Below `run` and `kits` there are lists, whose entries are named without them.
        found = [entry for entry in (wanted, *wanted.get("run", {}).get("services", ())) if first in entry]
        for key in rest:
            found = [each for entry in found for each in _entries(entry[first]) if key in each]
            first = key
        assert found, path


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_examples_workflow_is_the_readmes_without_what_follows(example: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (example / "README.md").read_text(), re.DOTALL)
    theirs, ours = yaml.safe_load(text), yaml.safe_load(README.split("```yaml\n")[1].split("```")[0])
    steps = ours["jobs"]["package"]["steps"]
    assert theirs["jobs"] == {
        "package": {
            "runs-on": ours["jobs"]["package"]["runs-on"],
            "steps": [{key: step[key] for key in ("uses", "with")} for step in steps],
        }
    }
    assert theirs["permissions"] == ours["permissions"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_examples_readme_names_only_commands_that_there_are(example: Path) -> None:
    text = (example / "README.md").read_text()
    for line in re.findall(r"^pakman (.*?)(?:\s+#.*)?$", text, re.MULTILINE):
        command, *words = line.split()
        for flag in [word for word in words if word.startswith("-")]:
            assert flag in commands()[command], line
    run = yaml.safe_load((example / "instellar.yml").read_text())["run"]
    there_are = {"start", "stop", "restart", "status", "logs"} | {each["name"] for each in run.get("commands", ())}
    named = re.findall(rf"rc-service {example.name} ([a-z-]+)", text)
    assert set(named) <= there_are
    assert not named or run.get("services")
    # A person finds each command of the manifest.
    assert {each["name"] for each in run.get("commands", ())} <= set(named)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_examples_readme_leads_to_files_that_there_are(example: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (example / "README.md").read_text()):
        assert (example / target).is_file(), target
    assert f"](examples/{example.name})" in README

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from pakman import manifest, stack, validation
from pakman.errors import UsageError
from pakman.problems import Problem
from tests.manifests import TODAY

RIGHT: dict[str, Any] = {
    "stack": "alpine/3.23",
    "dependencies": {"runtime": ["curl"]},
    "build": {"destinations": ["dist"]},
    "run": {"name": "shop"},
}


def check(tmp_path: Path, data: Any) -> tuple[Problem, ...]:
    file = tmp_path / "instellar.yml"
    file.write_text(yaml.safe_dump(data, sort_keys=False, width=1000))
    return manifest.read(file, repository="shop", today=TODAY).problems


def advised(hint: str) -> Any:
    return yaml.safe_load(textwrap.dedent(hint.partition("write:\n")[2]))


@pytest.mark.parametrize(
    ("place", "key", "value", "phrase"),
    [
        ("", "env", {"A": "b"}, "/etc/shop/env"),
        ("", "environment", ["A=b"], "/etc/shop/env"),
        ("build", "env", {"A": "b"}, "build.environment is for the build"),
        ("run", "env", {"A": "b"}, "/etc/shop/env"),
        ("", "image", "node:20", "what to build on is `stack`: alpine/"),
        ("build", "image", "node:20", "what to build on is `stack`: alpine/"),
        ("", "port", 3000, "PORT=8080 into /etc/shop/env"),
        ("run", "ports", ["3000:3000"], "PORT=8080 into /etc/shop/env"),
        ("", "version", 1, "take it out"),
        ("", "ignore", ["tmp"], "build.exclude"),
        ("run", "restart", "always", "take it out"),
        ("run", "volumes", ["a:/b"], "take it out"),
        ("run", "working_directory", "/app", "take it out"),
        ("", "jobs", {}, ".github/workflows"),
    ],
)
def test_a_key_from_elsewhere_says_what_is_here_instead(
    tmp_path: Path, place: str, key: str, value: Any, phrase: str
) -> None:
    data = RIGHT | ({place: RIGHT[place] | {key: value}} if place else {key: value})
    (problem,) = check(tmp_path, data)
    assert (problem.code, problem.path) == ("unknown-key", f"{place}.{key}".lstrip("."))
    assert phrase in problem.hint


NODE = {"path": "/usr/bin", "binary": "node", "start": {"call": "server.js"}}
PUMA = {"path": "/bin", "binary": "sh", "start": {"call": "-c 'exec bundle exec puma -p $PORT'"}}


@pytest.mark.parametrize(
    ("place", "key", "value", "services"),
    [
        ("run", "command", "node server.js", {"web": NODE}),
        ("run", "start", "node server.js", {"web": NODE}),
        ("run", "cmd", ["node", "server.js"], {"web": NODE}),
        ("", "entrypoint", "exec node server.js", {"web": NODE}),
        ("", "web", "bundle exec puma -p $PORT", {"web": PUMA}),
        ("", "worker", "bin/jobs", {"worker": {"binary": "jobs"}}),
        ("run", "processes", {"web": "node server.js", "jobs": "bin/jobs"}, {"web": NODE, "jobs": {"binary": "jobs"}}),
        ("run", "processes", {"web": {"command": "node server.js"}}, {"web": NODE}),
        (
            "run",
            "command",
            "NODE_ENV=production node server.js",
            {"web": {"path": "/bin", "binary": "sh", "start": {"call": "-c 'NODE_ENV=production node server.js'"}}},
        ),
        ("run", "command", None, {"web": NODE}),
        ("run", "command", "x" * 300, {"web": NODE}),
    ],
)
def test_a_command_line_becomes_a_service_to_paste(
    tmp_path: Path, place: str, key: str, value: Any, services: dict[str, Any]
) -> None:
    data = RIGHT | ({place: RIGHT[place] | {key: value}} if place else {key: value})
    (problem,) = check(tmp_path, data)
    assert (problem.code, problem.path) == ("unknown-key", f"{place}.{key}".lstrip("."))
    run = advised(problem.hint)["run"]
    assert {service.pop("name"): service for service in run["services"]} == services
    assert check(tmp_path, RIGHT | {"run": {"name": "shop", **advised(problem.hint)["run"]}}) == ()


@pytest.mark.parametrize(
    ("kind", "item", "better"),
    [
        ("services", {"command": "node server.js"}, NODE),
        ("services", {"cmd": ["bundle", "exec", "puma", "-p", "80"]}, {"path": "/usr/bin", "binary": "bundle"}),
        ("commands", {"script": "bin/rails db:migrate"}, {"binary": "rails", "call": "db:migrate"}),
        ("services", {"binary": "shop", "call": "-p 80"}, {"start": {"call": "-p 80"}}),
        ("services", {"binary": "shop", "args": ["-p", "a b"]}, {"start": {"call": "-p 'a b'"}}),
        ("commands", {"binary": "shop", "args": "-p 80"}, {"call": "-p 80"}),
        ("commands", {"binary": "shop", "start": {"call": "-p 80"}}, {"call": "-p 80"}),
    ],
)
def test_a_service_s_own_keys_from_elsewhere_do_too(
    tmp_path: Path, kind: str, item: dict[str, Any], better: dict[str, Any]
) -> None:
    problems = check(tmp_path, RIGHT | {"run": {"name": "shop", kind: [{"name": "web", **item}]}})
    (problem,) = (problem for problem in problems if problem.code == "unknown-key")
    found = advised(problem.hint)
    assert found.items() >= better.items()
    fixed = {"name": "web", **({"binary": item["binary"]} if "binary" in item else {}), **found}
    assert check(tmp_path, RIGHT | {"run": {"name": "shop", kind: [fixed]}}) == ()


@pytest.mark.parametrize(
    ("place", "key", "value", "command"),
    [
        ("", "scripts", {"build": "npm ci", "lint": "npm run lint"}, "npm ci\nnpm run lint"),
        ("", "steps", [{"run": "npm ci"}, {"uses": "x"}, {"run": "npm test\nnpm run build"}], None),
        ("", "script", ["npm ci"], "npm ci"),
        ("build", "run", "make all", "make all"),
        ("build", "install", "make\nmake install\n", "make\nmake install"),
        ("", "install", None, "npm ci\nnpm run build"),
    ],
)
def test_a_script_becomes_the_build_s(tmp_path: Path, place: str, key: str, value: Any, command: str | None) -> None:
    data = RIGHT | ({place: RIGHT[place] | {key: value}} if place else {key: value})
    (problem,) = check(tmp_path, data)
    build = advised(problem.hint)["build"]
    assert build["command"] == (command or "npm ci\nnpm test\nnpm run build")
    assert check(tmp_path, RIGHT | {"build": RIGHT["build"] | build}) == ()


@pytest.mark.parametrize("key", ["packages", "files", "platforms"])
def test_other_lines_to_paste_are_right(tmp_path: Path, key: str) -> None:
    (problem,) = check(tmp_path, RIGHT | {key: ["x"]})
    assert check(tmp_path, RIGHT | advised(problem.hint)) == ()


def test_services_by_name_are_told_to_be_a_list(tmp_path: Path) -> None:
    problems = check(tmp_path, RIGHT | {"run": {"name": "shop", "services": {"jobs": {"binary": "jobs"}}}})
    assert [problem.code for problem in problems] == ["wrong-type"]
    assert problems[0].hint.endswith("begin each item with `- name: jobs`")


def test_where_there_is_no_manifest_there_is_one_to_begin_with(tmp_path: Path) -> None:
    file = tmp_path / "instellar.yml"
    with pytest.raises(UsageError, match="there is no manifest") as caught:
        validation.validate(file, repository="shop", today=TODAY)
    written = caught.value.hint.partition("write into it:\n")[2]
    # As in the README: what is built on any machine.
    assert f"stack: {stack.EVERYWHERE}\n" in written
    file.write_text(written)
    assert validation.validate(file, repository="shop", today=TODAY).problems == ()


@pytest.mark.parametrize(
    ("there", "named", "hint"),
    [
        ("instellar.yaml", "instellar.yml", "there is {top}/instellar.yaml: rename it, or give its path"),
        ("instellar.yml", "package.yml", "there is {top}/instellar.yml: rename it, or give its path"),
        ("instellar.yml", "web/src/instellar.yml", "there is one in a folder above: run pakman in {top}"),
    ],
)
def test_a_manifest_by_another_name_or_in_a_folder_above_is_named(
    tmp_path: Path, there: str, named: str, hint: str
) -> None:
    (tmp_path / "web/src").mkdir(parents=True)
    (tmp_path / there).write_text("")
    with pytest.raises(UsageError, match="there is no manifest") as caught:
        validation.validate(tmp_path / named, repository="shop", today=TODAY)
    assert caught.value.hint == hint.format(top=tmp_path)

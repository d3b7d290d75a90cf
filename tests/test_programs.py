from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pakman import manifest, service
from pakman.problems import Problem
from tests.manifests import TODAY


def problems(
    tmp_path: Path, item: dict[str, Any], destinations: list[str], key: str = "services"
) -> tuple[Problem, ...]:
    data = {
        "stack": "alpine/edge",
        "build": {"destinations": destinations},
        "dependencies": {"runtime": ["curl"]},
        "run": {"name": "shop", key: [{"name": "web", **item}]},
    }
    file = tmp_path / "instellar.yml"
    file.write_text(yaml.safe_dump(data, allow_unicode=True, width=1000))
    return manifest.read(file, repository="shop", today=TODAY).problems


def advised(problem: Problem) -> dict[str, Any]:
    """Return what the lines in a hint say."""
    text = problem.hint.partition("write:\n")[2].partition("\nor, ")[0]
    found: dict[str, Any] = yaml.safe_load(textwrap.dedent(text))
    return found


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ("-p $PORT", "$PORT"),
        ("-p ${PORT:-80}", "${PORT:-80}"),
        ('-p "$PORT"', '"$PORT"'),
        ("--host=$(hostname)", "--host=$(hostname)"),
        ("--host `hostname`", "`hostname`"),
        ("migrate && bin/shop serve", "&&"),
        ("migrate; bin/shop serve", "migrate;"),
        ("serve | tee log", "|"),
        ("serve >> log", ">>"),
        ("serve >log 2>&1", ">log"),
        ("--config ~/shop.toml", "~/shop.toml"),
        ("load data/*.csv", "data/*.csv"),
    ],
)
@pytest.mark.parametrize("key", ["services", "commands"])
def test_what_only_a_shell_would_read_is_doubted_and_the_advice_is_not(
    tmp_path: Path, key: str, call: str, word: str
) -> None:
    item = {"binary": "shop", **({"start": {"call": call}} if key == "services" else {"call": call})}
    (problem,) = problems(tmp_path, item, ["bin"], key)
    assert (problem.code, problem.severity) == ("shell-in-call", "warning")
    assert word.replace("'", "''") in problem.message
    better = advised(problem)
    assert problems(tmp_path, better, ["bin"], key) == ()
    given = better["start"]["call"] if key == "services" else better["call"]
    assert (better["path"], better["binary"], shlex.split(given)[0]) == ("/bin", "sh", "-c")
    script = shlex.split(given)[1]
    assert script.removeprefix("exec ") == f"bin/shop {call}"
    assert script.startswith("exec ") == (not any(sign in call for sign in ("&&", ";", "|")))


@pytest.mark.parametrize(
    "call",
    [
        "start",
        "-c 'exec puma -p $PORT'",
        "eval 'puts ENV[\"PORT\"] && exit'",
        "--password \\$ecret",
        "--price 5$ --share 50%",
        "--url http://x/?a=1&b=2;c",
        "--forwarded-allow-ips *",
        "--queues=* --match a~b",
        '--title "a && b; c > d"',
        "-e 'a * b'",
    ],
)
def test_what_is_quoted_or_no_shell_s_is_not_doubted(tmp_path: Path, call: str) -> None:
    assert problems(tmp_path, {"binary": "shop", "start": {"call": call}}, ["bin"]) == ()


def test_a_readiness_command_is_no_shell_s_either(tmp_path: Path) -> None:
    item = {"binary": "shop", "ready": {"command": "curl -fs http://127.0.0.1:$PORT/"}}
    (problem,) = problems(tmp_path, item, ["bin"])
    assert (problem.code, problem.path) == ("shell-in-call", "run.services[0].ready.command")
    assert advised(problem) == {"command": "sh -c 'exec curl -fs http://127.0.0.1:$PORT/'"}
    assert problems(tmp_path, item | {"ready": advised(problem)}, ["bin"]) == ()


def test_the_line_for_a_shell_is_that_shell_s(tmp_path: Path) -> None:
    right = {"path": "/bin", "binary": "sh", "start": {"call": '-c "exec bin/shop -p $PORT"'}}
    assert problems(tmp_path, right, ["bin"]) == ()
    right = {"path": "/usr/bin", "binary": "bundle", "start": {"call": 'exec sh -c "puma -p $PORT"'}}
    assert problems(tmp_path, right, ["bin"]) == ()
    wrong = {"path": "/bin", "binary": "sh", "start": {"call": "-c exec bin/shop -p $PORT"}}
    assert [problem.code for problem in problems(tmp_path, wrong, ["bin"])] == ["shell-in-call"]


@pytest.mark.parametrize("destinations", [["notes"], ["notes", "site/*"], ["*"], ["dist/bin"]])
def test_no_destination_brings_the_shell_that_is_to_read_a_call(tmp_path: Path, destinations: list[str]) -> None:
    wrong = {"binary": "gunicorn", "start": {"call": "-m notes && echo hi $PORT"}}
    (problem,) = problems(tmp_path, wrong, destinations)
    better = advised(problem)
    assert (better["path"], better["binary"]) == ("/bin", "sh")
    assert problems(tmp_path, better, destinations) == ()
    # Who leaves out where the shell is gets a package whose service does not start.
    (problem,) = problems(tmp_path, {"binary": "sh", "start": better["start"]}, destinations)
    assert (problem.code, advised(problem)["path"]) == ("program-elsewhere", "/bin")


def test_what_the_program_was_given_as_it_stands_it_still_is(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, {"binary": "shop", "start": {"call": "--url http://x/?a&b '$A' \"$B c\""}}, ["bin"])
    script = shlex.split(advised(problem)["start"]["call"])[1]
    assert script == "exec bin/shop --url 'http://x/?a&b' '$A' \"$B c\""


@pytest.mark.parametrize(
    ("binary", "destinations", "path", "name"),
    [
        ("node", ["dist"], "/usr/bin", "node"),
        ("node", ["*"], "/usr/bin", "node"),
        ("bundle", ["app", "vendor"], "/usr/bin", "bundle"),
        ("sh", ["dist"], "/bin", "sh"),
        ("caddy", ["dist"], "/usr/sbin", "caddy"),
        ("bin/jobs", ["*"], None, "jobs"),
        ("./bin/jobs", ["bin"], None, "jobs"),
        ("bin/tools/jobs", ["bin"], "/var/lib/shop/bin/tools", "jobs"),
        ("dist/server", ["out/dist"], "/var/lib/shop/dist", "server"),
        ("node_modules/.bin/next", ["*"], "/var/lib/shop/node_modules/.bin", "next"),
        ("server", ["server"], "/var/lib/shop", "server"),
        ("server", ["target/release/server", "public"], "/var/lib/shop", "server"),
    ],
)
def test_a_program_that_lies_elsewhere_is_doubted_and_the_advice_is_not(
    tmp_path: Path, binary: str, destinations: list[str], path: str | None, name: str
) -> None:
    item = {"binary": binary, "start": {"call": "serve"}}
    (problem,) = problems(tmp_path, item, destinations)
    assert (problem.code, problem.severity) == ("program-elsewhere", "warning")
    assert f"/var/lib/shop/bin/{binary}" in problem.message
    better = advised(problem)
    assert (better.get("path"), better["binary"]) == (path, name)
    assert problems(tmp_path, {**item, **better}, destinations) == ()


@pytest.mark.parametrize(
    ("binary", "destinations"),
    [
        ("web", ["bin"]),
        ("web", ["*"]),
        ("shop", ["_build/prod/rel/shop/*"]),
        ("bundle", ["*"]),
        ("python3", ["venv/*"]),
        ("python3", ["venv/bin", "app"]),
        ("tools/web", ["bin"]),
        ("server", ["server", "bin"]),
    ],
)
def test_a_program_that_may_be_in_the_package_is_not_doubted(
    tmp_path: Path, binary: str, destinations: list[str]
) -> None:
    assert problems(tmp_path, {"binary": binary}, destinations) == ()


def test_a_whole_command_line_as_the_binary_is_taken_apart(tmp_path: Path) -> None:
    item = {"binary": "bundle exec puma", "start": {"call": "-p $PORT"}}
    problem = problems(tmp_path, item, ["app"])[0]
    assert problem.code == "blank-in-binary"
    better = advised(problem)
    assert better == {"path": "/bin", "binary": "sh", "start": {"call": "-c 'exec bundle exec puma -p $PORT'"}}
    assert problems(tmp_path, better, ["app"]) == ()


def test_the_advice_reaches_the_service_s_script(tmp_path: Path) -> None:
    item = {"path": "/usr/bin", "binary": "bundle", "start": {"call": "exec puma -p $PORT"}}
    better = advised(problems(tmp_path, item, ["*"])[0])
    assert problems(tmp_path, better, ["*"]) == ()
    reading = manifest.read(tmp_path / "instellar.yml", repository="shop", today=TODAY)
    assert reading.manifest is not None
    run = next(file for file in service.service_files(reading.manifest, "shop") if file.name == "shop.run")
    assert " /bin/sh -c 'exec bundle exec puma -p $PORT'" in run.content


@given(st.text(alphabet="ab '\"\\$`;&|<>*~()#:-=\t", min_size=1, max_size=24))
def test_any_call_is_answered_with_advice_that_holds(tmp_path_factory: pytest.TempPathFactory, call: str) -> None:
    tmp_path = tmp_path_factory.getbasetemp()
    found = problems(tmp_path, {"binary": "shop", "start": {"call": call}}, ["bin"])
    for problem in found:
        assert problem.code in ("shell-in-call", "bad-call")
        if "write:\n" in problem.hint:
            assert problems(tmp_path, advised(problem), ["bin"]) == ()

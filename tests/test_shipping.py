"""What is decided before anything is built or sent, without a server."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pakman import (
    arguments,
    bucket,
    cli,
    command,
    commands,
    deploy,
    deploy_commands,
    detection,
    shipping,
    test_commands,
)
from pakman.archive import MissingError
from pakman.buildroots import unprivileged
from pakman.checks import Check, Result
from pakman.deploy import Commit
from pakman.instellar import Deployment, Instellar, Storage
from pakman.publish import Publication
from pakman.repository import Repository
from pakman.test_report import Report
from tests.repositories import repository
from tests.test_github import parse_outputs

MANIFEST = "stack: alpine/3.23\nbuild:\n  destinations: [public]\n"
FORK = {"pull_request": {"head": {"repo": None}, "base": {"repo": {"full_name": "acme/notes"}}}}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-tests"}

SIGNING_KEYS = ("PAKMAN_SIGNING_KEY", "PAKMAN_PREVIOUS_SIGNING_KEY")

become_root = commands.become_root
Job = Callable[..., tuple[int, dict[str, str], str]]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Run pakman in a job's environment; return its status, outputs and summary."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "instellar.yml").write_text(MANIFEST)
    (tmp_path / "event.json").write_text(json.dumps(FORK))

    def run(*argv: str, **env: str) -> tuple[int, dict[str, str], str]:
        for name in ("output", "summary"):
            (tmp_path / name).write_text("")
        everything = {
            "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_REPOSITORY": "acme/notes",
            "GITHUB_EVENT_PATH": str(tmp_path / "event.json"), **env,
        }  # fmt: skip
        with monkeypatch.context() as patch:
            for name, value in everything.items():
                patch.setenv(name, value)
            status = cli.main(list(argv))
        return status, parse_outputs((tmp_path / "output").read_text()), (tmp_path / "summary").read_text()

    return run


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a build was asked for, in place of one."""
    asked: list[dict[str, Any]] = []

    def build(_args: object, env: dict[str, str], _progress: object, _: object, *, bucket: object = None) -> Repository:
        asked.append({"ships": bucket is not None, "key": [env[name] for name in SIGNING_KEYS if env.get(name)]})
        return repository(tmp_path / "packages", {"notes": b"any"})

    monkeypatch.setattr(commands, "built", build)
    return asked


@pytest.fixture(scope="session")
def pem() -> str:
    """The text of a signing key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "become_root", lambda _args, _env: None)


@pytest.fixture(autouse=True)
def tested(monkeypatch: pytest.MonkeyPatch) -> dict[str, Result]:
    """What a package test comes to, in place of one: `result`."""
    outcome: dict[str, Result] = {"result": "passed"}

    def test(*_: object) -> Report:
        check = Check("it runs", outcome["result"], reason="DATABASE_URL is missing")
        return Report("notes", "1.0.0-r0", "x86_64", "alpine/3.23", "", (check,))

    monkeypatch.setattr(test_commands, "tested", test)
    return outcome


@pytest.mark.parametrize(
    ("result", "flags", "status", "told", "why"),
    [
        ("passed", [], 0, "passed", ""),
        ("warning", [], 0, "passed", ""),
        ("skipped", [], 0, "skipped", "DATABASE_URL is missing"),
        ("failed", [], 8, "failed", ""),
        ("failed", ["--no-test"], 0, "skipped", "--no-test, or the input test, leaves it out"),
    ],
)
def test_a_package_that_fails_its_test_ends_the_run(
    job: Job, built: list[dict[str, Any]], tested: dict[str, Result], result: Result, flags: list[str], status: int,
    told: str, why: str,
) -> None:  # fmt: skip
    tested["result"] = result
    ended, outputs, summary = job("run", *flags)
    assert len(built) == 1
    assert (ended, outputs["test-result"], outputs["test-skipped"]) == (status, told, why)
    assert ("| failed | it runs: DATABASE" in summary) == (status == 8)
    assert summary.startswith("## pakman failed\n\n**notes 1.0.0-r0 fails its test: it runs: ") == (status == 8)


@pytest.mark.parametrize(
    "secrets", [{}, dict.fromkeys(SIGNING_KEYS, "a key"), KEYS, {"AWS_ACCESS_KEY_ID": "a variable"}]
)
def test_a_fork_s_pull_request_is_built_and_not_pushed(
    job: Job, built: list[dict[str, Any]], secrets: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, outputs, summary = job("run", "--bucket", "s3://bucket", GITHUB_EVENT_NAME="pull_request", **secrets)
    assert status == 0
    assert built == [{"ships": False, "key": []}]
    why = "nothing was pushed: GitHub gives a pull request from a fork no secrets"
    assert outputs["skipped"] == why
    assert outputs["name"] == "notes"
    assert "repository-url" not in outputs
    assert f"::notice::{why}" in capsys.readouterr().out
    assert "Skipped: nothing was pushed" in summary
    assert summary.startswith("## notes 1.0.0-r0")


def test_an_earlier_build_of_a_fork_is_not_pushed_either(job: Job, tmp_path: Path) -> None:
    repository(tmp_path / "packages", {"notes": b"any"}, is_throwaway_key=True)
    status, outputs, _ = job("push", "packages", "--bucket", "s3://bucket", GITHUB_EVENT_NAME="pull_request")
    assert status == 0
    assert outputs["skipped"].startswith("nothing was pushed: ")


@pytest.mark.parametrize(
    ("secrets", "status", "sentence"),
    [
        ({}, 5, "pushing needs a signing key"),
        (KEYS, 5, "pushing needs a signing key"),
        ({"PAKMAN_SIGNING_KEY": "any", "AWS_ACCESS_KEY_ID": "half"}, 2, "AWS_SECRET_ACCESS_KEY is not"),
    ],
)
def test_on_any_other_event_what_is_missing_is_said_before_the_build(
    job: Job, built: list[dict[str, Any]], secrets: dict[str, str], status: int, sentence: str
) -> None:
    ended, outputs, summary = job("run", "--bucket", "s3://bucket", GITHUB_EVENT_NAME="push", **secrets)
    assert ended == status
    assert built == []
    assert outputs["skipped"] == ""
    assert summary.startswith("## pakman failed")
    assert sentence in summary.replace("\\", "")


def test_a_project_without_a_commit_is_refused_before_the_build(
    job: Job, pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pakman import git

    monkeypatch.setattr(git, "find", lambda _directory, _env: None)
    monkeypatch.setattr(bucket.Bucket, "list", lambda _self, _prefix: {})
    status, outputs, summary = job("run", "--bucket=s3://bucket", PAKMAN_SIGNING_KEY=pem, **KEYS)
    assert status == 2
    assert "has no commit to file its packages under" in summary
    # As far as they are true.
    assert (outputs["name"], outputs["version"], outputs["stack"]) == ("notes", "0.0.0-r0", "alpine/3.23")


@pytest.mark.parametrize("words", [["release", "--expect=x86_64", "--bucket=s3://bucket"], ["deploy"]])
def test_a_commit_that_nobody_names_is_asked_for(
    job: Job, pem: str, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(detection, "commit", lambda _directory, _env: None)
    tokens = {"INSTELLAR_PACKAGE_TOKEN": "p", "INSTELLAR_AUTH_TOKEN": "a"}
    status, _, summary = job(*words, GITHUB_EVENT_PATH="", PAKMAN_SIGNING_KEY=pem, **KEYS, **tokens)
    assert status == 2
    assert f"nothing says which commit to {words[0]}" in summary
    assert "give --sha SHA, or" in summary.replace("\\", "")


def test_an_architecture_that_is_left_out_is_skipped(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "built", lambda *_, **__: repository(tmp_path / "packages", {}))
    status, outputs, summary = job("run")
    assert status == 0
    assert outputs["skipped"] == "this machine's is not among the architectures to build for"
    assert summary.startswith("## pakman was skipped")


def test_validate_has_a_summary_with_every_problem(job: Job, tmp_path: Path) -> None:
    assert job("validate")[2].startswith("## instellar.yml is valid")
    (tmp_path / "instellar.yml").write_text("biuld: 1\n")
    status, _, summary = job("validate")
    assert status == 3
    assert summary.startswith("## pakman failed\n\n**instellar.yml is not valid: ")
    assert "- `instellar.yml:1:1` error: " in summary


def test_a_working_directory_is_where_paths_start(job: Job, tmp_path: Path) -> None:
    (tmp_path / "apps/shop").mkdir(parents=True)
    (tmp_path / "instellar.yml").rename(tmp_path / "apps/shop/instellar.yml")
    assert job("validate", "--working-directory", "apps/shop")[0] == 0
    status, _, summary = job("validate", "--working-directory", "nowhere")
    assert status == 2
    assert "--working-directory is 'nowhere', which is no folder to work in" in summary.replace("\\", "")


def test_who_begins_again_as_root_is_in_the_working_directory_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(unprivileged, "as_root_of_a_namespace", lambda argv, _env: argv)
    monkeypatch.setattr(command, "replace", lambda argv, *, env: again.extend(argv))
    monkeypatch.chdir(tmp_path)
    argv = ["build", "--output=x", "--working-directory=apps"]
    args = arguments.parser().parse_args(argv, argparse.Namespace(argv=argv))
    become_root(args, {})
    args = arguments.parser().parse_args(again[again.index("pakman") + 1 :])
    assert args.working_directory == tmp_path


@pytest.mark.parametrize(("level", "said"), [("info", True), ("warning", False), ("error", False)])
def test_a_level_says_what_is_heard(
    job: Job, built: list[dict[str, Any]], level: str, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job("run", "--log-level", level)[0] == 0
    assert ("::notice::" in capsys.readouterr().out) == said
    assert job("run", "--log-level", level, "--bucket", "nowhere")[0] == 2
    assert "::error title=pakman::" in capsys.readouterr().out


TOKENS = {"INSTELLAR_PACKAGE_TOKEN": "package-token", "INSTELLAR_AUTH_TOKEN": "auth-token"}
STORAGE = Storage("packages", "https://s3.example.com", "auto", "AKIDEXAMPLE", "s3cr3t-of-the-service")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A service that knows no commit, and what became of a run: where it pushed, and that it deployed."""
    done: list[str] = []

    def pushed(_repositories: object, target: bucket.Bucket, *_: object, **__: object) -> Publication:
        done.append(f"pushed to {target.location}")
        return Publication("path", "url", "path", "url", (), ())

    monkeypatch.setattr(Instellar, "deployment", lambda _self, _sha: None)
    monkeypatch.setattr(Instellar, "storage", lambda _self: STORAGE)
    monkeypatch.setattr(bucket.Bucket, "list", lambda _self, _prefix: {})
    monkeypatch.setattr(shipping, "_published", pushed)
    monkeypatch.setattr(deploy_commands, "finish", lambda *_: done.append("deployed"))
    monkeypatch.setattr(deploy_commands, "sha", lambda *_: "0" * 40)
    return done


RUN = ("run", "--no-test", "--ref=refs/heads/main")


def test_with_tokens_and_no_bucket_the_service_names_one(
    job: Job, built: list[dict[str, Any]], service: list[str], pem: str
) -> None:
    assert job(*RUN, PAKMAN_SIGNING_KEY=pem, **TOKENS)[0] == 0
    assert built[0]["ships"]
    assert service == ["pushed to s3://packages", "deployed"]


@pytest.mark.parametrize("env", [{}, TOKENS | {"GITHUB_EVENT_NAME": "pull_request"}])
def test_without_tokens_and_for_a_fork_nothing_is_deployed(
    job: Job, built: list[dict[str, Any]], service: list[str], env: dict[str, str]
) -> None:
    status, outputs, _ = job(*RUN, **env)
    assert (status, outputs["deployment-status"], service) == (0, "none", [])


def test_a_throwaway_key_signs_nothing_that_is_deployed(
    job: Job, built: list[dict[str, Any]], service: list[str]
) -> None:
    status, _, summary = job(*RUN, **TOKENS)
    assert (status, built) == (5, [])
    assert "pushing needs a signing key" in summary


def test_a_job_of_a_matrix_leaves_the_deployment_to_the_last(
    job: Job,
    built: list[dict[str, Any]],
    service: list[str],
    pem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(*_: object) -> None:
        raise MissingError("no packages for aarch64 yet")

    monkeypatch.setattr(deploy_commands, "finish", missing)
    status, outputs, summary = job(*RUN, PAKMAN_SIGNING_KEY=pem, **TOKENS)
    assert (status, outputs["deployment-status"], outputs["skipped"]) == (0, "none", "")
    assert "::notice::nothing was deployed: no packages for aarch64 yet" in capsys.readouterr().out
    assert "- Deployment: `none yet: no packages for aarch64 yet`" in summary


def test_a_dry_run_deploys_nothing(job: Job, built: list[dict[str, Any]], service: list[str], pem: str) -> None:
    assert job(*RUN, "--dry-run", PAKMAN_SIGNING_KEY=pem, **TOKENS)[0] == 0
    assert service == ["pushed to s3://packages"]


def test_a_commit_that_the_service_knows_is_not_built(
    job: Job, built: list[dict[str, Any]], service: list[str], pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Deployment("7", "archives/x/packages.zip")
    monkeypatch.setattr(Instellar, "deployment", lambda _self, _sha: known)
    again: list[tuple[Commit, str]] = []

    def announce(commit: Commit, _service: object, path: str, *_: object) -> deploy.Deployed:
        again.append((commit, path))
        return deploy.Deployed("8", "created", path)

    monkeypatch.setattr(deploy, "announce", announce)
    status, outputs, _ = job(*RUN, PAKMAN_SIGNING_KEY=pem, **TOKENS)
    assert status == 0
    assert (built, service) == ([], [])
    assert again == [(Commit("acme", "notes", "0" * 40, "refs/heads/main"), "archives/x/packages.zip")]
    assert (outputs["deployment-id"], outputs["deployment-status"]) == ("8", "created")
    assert outputs["skipped"] == f"nothing was built or pushed: {'0' * 40} is deployed already"


def test_no_other_commit_is_deployed_than_the_one_that_is_built(
    job: Job, built: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "commit", lambda _directory, _env: "1" * 40)
    status, _, summary = job(*RUN, f"--sha={'2' * 40}", **TOKENS)
    assert (status, built) == (2, [])
    assert f"--sha is {'2' * 40}, but what is built is {'1' * 40}" in summary.replace("\\", "")


@pytest.mark.parametrize("command", ["deploy", "run"])
@pytest.mark.parametrize(
    ("argv", "status", "sentence"),
    [
        (["nope.yml"], 2, "there is no manifest nope.yml"),
        (["."], 2, "the manifest . cannot be read: Is a directory"),
        (["--bucket=my-bucket"], 2, "the bucket 'my-bucket' does not begin with s3://"),
        (["--bucket=s3://my-bucket", "--prefix=a//b"], 2, "--prefix 'a//b' has an empty part between two slashes"),
        (["--bucket=s3://my-bucket", "--endpoint-url=https://s3.example.com"], 6, "no credentials were found"),
        (["--stack=debian/12"], 2, "there is no stack 'debian/12'"),
        (["--ref=nonsense"], 2, "--ref is 'nonsense', but it should be the full name of a branch or a tag"),
        (["--instellar-endpoint=foo"], 2, "is 'foo', which is no address"),
        (["--instellar-endpoint=https//me:hun/ter2@x.example"], 2, "is '…@x.example', which is no address"),
    ],
)
def test_what_is_wrong_here_is_said_before_anybody_is_asked(
    job: Job, pem: str, command: str, argv: list[str], status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hermetic ring fails a test that opens a socket.
    monkeypatch.setattr(deploy_commands, "sha", lambda *_: "0" * 40)
    ref = [] if argv[0].startswith("--ref") else ["--ref=refs/heads/main"]
    env = {"PAKMAN_SIGNING_KEY": pem, "AWS_EC2_METADATA_DISABLED": "true", **TOKENS}
    ended, _, summary = job(command, *argv, *ref, **env)
    assert (ended, sentence in summary.replace("\\", "")) == (status, True), summary


@pytest.mark.parametrize(
    ("argv", "key", "status", "sentence"),
    [
        ([], "no key", 5, "PAKMAN_SIGNING_KEY"),
        (["--signing-key=nope.rsa"], "", 5, "the signing key nope.rsa cannot be read"),
        (["--package-version=latest"], "pem", 2, "--package-version is 'latest'"),
        (["--package-release=x"], "pem", 2, "--package-release is 'x'"),
        (["--mirror=x"], "pem", 2, "--mirror 'x' is no URL"),
    ],
)
def test_what_a_build_would_refuse_is_said_before_anybody_is_asked(
    job: Job, pem: str, argv: list[str], key: str, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_commands, "sha", lambda *_: "0" * 40)
    ended, _, summary = job(*RUN, *argv, PAKMAN_SIGNING_KEY=key.replace("pem", pem), **TOKENS)
    assert (ended, sentence in summary.replace("\\", "")) == (status, True), summary


@pytest.mark.parametrize(("argv", "named"), [(["--instellar-endpoint=foo"], "--instellar-endpoint"), ([], "INSTELLAR")])
def test_an_address_that_is_none_is_named_as_it_was_given(job: Job, argv: list[str], named: str) -> None:
    env = {"INSTELLAR_ENDPOINT": "foo", **TOKENS}
    assert f"**{named}" in job("deploy", "--ref=refs/heads/main", *argv, **env)[2].replace("\\", "")

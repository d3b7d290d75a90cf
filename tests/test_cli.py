"""The door: exit codes, one sentence for every error, help that reads like documentation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pakman import __version__, arguments, cli, commands
from pakman.errors import UsageError
from tests.repositories import repository

VALID = """\
stack: alpine/3.23
build:
  destinations: [public]
"""


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid manifest in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "instellar.yml"
    file.write_text(VALID)
    return file


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pakman {__version__}\n"


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "A first package" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "help_of"),
    [
        (["build", "--output=x", "--nope"], "pakman build"),
        (["deploy", "a", "b"], "pakman deploy"),
        (["stack", "list", "--nope"], "pakman stack list"),
        (["run", "--run-root=x"], "pakman run"),
        (["frob"], "pakman"),
        (["--nope"], "pakman"),
    ],
)
def test_a_wrong_argument_names_the_help_of_its_command(
    argv: list[str], help_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.endswith(f"\n  see `{help_of} --help`\n")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["biuld"], "invalid choice: 'biuld'"),
        (["validate", "--fromat", "json"], "unrecognized arguments: --fromat"),
        (["push"], "required: --bucket"),
        (["push", "--bucket", "s3://bucket"], "packages holds no built repository"),
        (["test"], "packages holds no built repository"),
        (["validate", "--format", "xml"], "invalid choice: 'xml'"),
        (["validate", "nowhere.yml"], "nowhere.yml"),
        (["push", "nowhere", "--bucket", "s3://bucket"], "nowhere holds no built repository"),
        (["inspect", "nowhere.apk"], "nowhere.apk"),
        (["inspect", "."], "."),
    ],
)
@pytest.mark.usefixtures("manifest")
def test_bad_usage_is_one_sentence_and_exit_2(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert said.err.startswith("pakman: error: ")
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_valid_manifest(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(manifest)]) == 0
    assert "is valid: no errors, no warnings" in capsys.readouterr().out


def test_an_invalid_manifest(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(VALID.replace("destinations", "destination"))
    assert cli.main(["validate", str(manifest)]) == 3
    said = capsys.readouterr().out
    assert "instellar.yml:3:3: error:" in said
    assert "destinations" in said
    assert cli.main(["validate", str(manifest), "--format", "json"]) == 3
    (problem, *_) = json.loads(capsys.readouterr().out)
    assert list(problem) == ["file", "line", "column", "path", "severity", "code", "message", "hint"]
    assert cli.main(["validate", str(manifest), "--format", "github"]) == 3
    assert capsys.readouterr().out.startswith("::error ")


def test_a_bug_is_reported_without_what_was_handled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object) -> int:
        raise RuntimeError("the-secret")

    monkeypatch.setattr(commands, "run", crash)
    assert cli.main(["validate"]) == 1
    said = capsys.readouterr().err
    assert f"this is a bug in pakman {__version__}: RuntimeError" in said
    assert "test_cli.py" in said
    assert "the-secret" not in said


def test_in_a_github_job_an_error_is_an_annotation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert cli.main(["push", "nowhere", "--bucket", "s3://bucket"]) == 2
    said = capsys.readouterr().out
    assert said.startswith("::error title=pakman::nowhere holds no built repository")
    assert said.count("\n") == 1


def test_a_test_says_what_it_cannot_read_or_write_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "become_root", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    repository(tmp_path / "app/packages", {"notes": b"any"})
    assert cli.main(["test", "app/packages", "--junit", "."]) == 2
    assert "--junit is '.', which is a directory" in capsys.readouterr().err
    (tmp_path / "app/instellar.yml").write_text(VALID)
    assert cli.main(["test", "app/packages"]) == 2
    said = capsys.readouterr().err
    assert "there is no manifest instellar.yml" in said
    assert "--config app/instellar.yml" in said


def test_what_a_throwaway_key_signed_is_not_pushed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository(tmp_path, {"notes": b"any"}, is_throwaway_key=True)
    assert cli.main(["push", str(tmp_path), "--bucket", "s3://bucket"]) == 5
    said = capsys.readouterr().err
    assert said.startswith("pakman: error: pushing needs a signing key of your own")
    assert "pakman keygen" in said


@pytest.mark.parametrize("command", ["validate", "generate", "build", "push", "run", "inspect", "keygen"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 8


def test_in_a_github_job_secrets_are_masked_before_anything_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-bPxRfiCYEXAMPLEKEY")
    cli.main(["push", "nowhere", "--bucket", "s3://bucket"])
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "::add-mask::wJalrXUtnFEMI-bPxRfiCYEXAMPLEKEY"
    assert "wJalr" not in said.out


def test_an_annotation_names_its_file_from_the_top_of_the_repository(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write_text("biuld: 1\n")
    (manifest.parent / "inner").mkdir()
    (manifest.parent / "inner/link.yml").symlink_to(manifest)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(manifest.parent.parent))
    folder = manifest.parent.name
    for file, shown in [
        ("instellar.yml", f"{folder}/instellar.yml"),
        ("inner/../instellar.yml", f"{folder}/instellar.yml"),
        ("inner/link.yml", f"{folder}/inner/link.yml"),
        (str(manifest), f"{folder}/instellar.yml"),
    ]:
        assert cli.main(["validate", file, "--format", "github"]) == 3
        assert f"::error file={shown},line=1,col=1," in capsys.readouterr().out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert cli.main(["run", "--project", "acme/shop"]) == 3
    assert f"::error file={folder}/instellar.yml,line=1,col=1," in capsys.readouterr().out
    # What is not in the repository cannot be shown there.
    monkeypatch.setenv("GITHUB_WORKSPACE", str(manifest.parent / "inner"))
    assert cli.main(["validate", "--format", "github"]) == 3
    assert "::error file=instellar.yml,line=1,col=1," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status", "sentence"),
    [
        (["--bucket", "nowhere"], 2, "does not begin with s3://"),
        (["missing.yml"], 2, "there is no manifest missing.yml"),
    ],
)
def test_whatever_ends_a_run_the_summary_says_it(
    manifest: Path, argv: list[str], status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = manifest.parent / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert cli.main(["run", "--project", "acme/shop", *argv]) == status
    assert summary.read_text().startswith("## pakman failed")
    assert sentence in summary.read_text()


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (RuntimeError("the-secret"), 1, "a bug of pakman's ended the run"),
        (cli.Stopped(15), 143, "the run was stopped before its end"),
    ],
)
def test_a_run_that_does_not_reach_its_end_is_no_success_in_the_summary(
    manifest: Path, error: BaseException, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(commands, "built", fail)
    summary = manifest.parent / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert cli.main(["run"]) == status
    assert summary.read_text().startswith(f"## pakman failed\n\n**{sentence}**\n\n- Duration: `")


@pytest.mark.usefixtures("manifest")
def test_outputs_that_cannot_be_written_do_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "missing/outputs"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert cli.main(["run", "missing.yml", "--project", "acme/shop"]) == 2
    said = capsys.readouterr().err
    assert "warning: the file that GITHUB_OUTPUT names" in said
    assert said.index("warning:") < said.index("pakman: error: there is no manifest missing.yml")
    assert "there is no manifest" in (tmp_path / "summary").read_text()


def test_json_on_stdout_has_nothing_for_github_between_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert cli.main(["push", "nowhere", "--bucket", "s3://bucket", "--format", "json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("::error title=pakman::nowhere holds no built repository")
    # And what a child writes is no command on stderr either.
    commands.progress_for(argparse.Namespace(), {"GITHUB_ACTIONS": "true"}, quiet_stdout=True).line("::add-mask::word")
    assert capsys.readouterr().err == "> ::add-mask::word\n"


@pytest.mark.parametrize("style", ["{flag} ", "{flag}="])
@pytest.mark.parametrize(
    ("argv", "required"),
    [
        (["validate", "", "--project", "--format"], ""),
        (["run", "", "--output", "--project", "--package-version", "--package-release", "--signing-key", "--rootfs",
          "--cache-dir", "--builder", "--build-root", "--bucket", "--endpoint-url", "--region", "--keep"], ""),
        (["push", "", "--bucket"], "--bucket"),
        (["inspect", "", "--key"], "FILE.apk"),
        (["keygen", "--project", "--output"], ""),
        (["generate", "", "--output"], ""),
        (["build", "", "--output"], ""),
        (["test", ""], ""),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_empty_is_what_is_absent(argv: list[str], required: str, style: str) -> None:
    words = [argv[0]]
    for word in argv[1:]:
        words += style.format(flag=word).split(" ") if word not in ("", "--keep") else [word]
    parser = arguments.parser()
    if required:
        with pytest.raises(UsageError, match=f"the following arguments are required: {required}$"):
            parser.parse_args(words)
    else:
        kept = [word for word in argv if word in ("--keep", argv[0])]
        assert parser.parse_args(words) == parser.parse_args(kept)


def test_where_no_folder_is_named_all_commands_mean_the_same() -> None:
    parser = arguments.parser()
    made = {parser.parse_args([command]).output for command in ("build", "run")}
    taken = {parser.parse_args(words).directory for words in (["test"], ["push", "--bucket=s3://bucket"])}
    assert made == taken == {Path("packages")}


@pytest.mark.parametrize("command", ["validate", "run --project a/b", "keygen --project a/b", "inspect x.apk"])
def test_a_folder_that_is_gone_is_one_sentence(
    manifest: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = manifest.parent / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(command.split()) == 2
    assert capsys.readouterr().err == "pakman: error: the current folder is gone\n  cd to where the application is\n"

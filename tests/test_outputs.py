"""What a run leaves for its reader."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pakman import outputs
from pakman.checks import Check
from pakman.errors import BuildError
from pakman.problems import Problem
from pakman.publish import Publication
from pakman.test_report import Report
from tests.repositories import repository

PUBLICATION = Publication("deployments/x", "https://s3.example/x", "keys/y", "https://s3.example/y", (), ())
APK_ADD = [
    "wget -P /etc/apk/keys https://s3.example/y",
    "echo https://s3.example/x >> /etc/apk/repositories",
    "apk add notes",
]


@pytest.mark.parametrize(
    ("packages", "more"),
    [(["notes"], []), (["notes", "notes-openrc"], ["rc-service notes start"])],
    ids=["static", "service"],
)
def test_how_to_install_ends_with_the_start_of_what_can_be_started(
    packages: list[str], more: list[str], tmp_path: Path
) -> None:
    built = repository(tmp_path, dict.fromkeys(packages, b"any"))
    assert outputs.how_to_install(built, PUBLICATION) == [*APK_ADD, *more]


def test_while_keys_are_rotated_the_new_one_is_installed_and_the_other_told(tmp_path: Path) -> None:
    built = repository(tmp_path, {"notes": b"any"}, previous_key_name="acme-old.rsa.pub")
    results = outputs.Results(workspace=tmp_path, repositories=[built], publication=PUBLICATION)
    assert results.outputs()["key-name"] == "acme-notes.rsa.pub"
    assert outputs.how_to_install(built, PUBLICATION) == APK_ADD
    assert "- Signs as well, until every machine has that key: `acme-old.rsa.pub`" in results.summary()


def test_outputs_of_two_architectures_are_those_of_both(tmp_path: Path) -> None:
    built = [repository(tmp_path / "packages", {"notes": b"any"}, arch=arch) for arch in ("aarch64", "x86_64")]
    found = outputs.Results(workspace=tmp_path, repositories=built, publication=PUBLICATION).outputs()
    assert found["arch"] == "aarch64 x86_64"
    assert [package["file"] for package in json.loads(found["packages"])] == [
        "aarch64/notes-1.0.0-r0.apk",
        "x86_64/notes-1.0.0-r0.apk",
    ]
    assert found["manifest-file"].splitlines() == [f"packages/{arch}/packages.json" for arch in ("aarch64", "x86_64")]
    assert len(found["checksums"].splitlines()) == 2
    assert (found["package-dir"], found["skipped"]) == ("packages", "")


def test_what_is_known_before_a_build_is_there_when_it_fails(tmp_path: Path) -> None:
    results = outputs.Results(workspace=tmp_path, name="notes", version="1.0.0-r7", stack="alpine/3.23")
    results.error = BuildError("no")
    assert results.outputs() == {"name": "notes", "version": "1.0.0-r7", "stack": "alpine/3.23", "skipped": ""}
    assert "- Stack: `alpine/3.23`" in results.summary()


def test_a_plan_is_no_publication(tmp_path: Path) -> None:
    built = [repository(tmp_path / "packages", {"notes": b"any"})]
    plan = dataclasses.replace(PUBLICATION, uploaded=("keys/y",), skipped=("deployments/x/old.apk",))
    results = outputs.Results(workspace=tmp_path, repositories=built, plan=plan, skipped="it is a dry run")
    assert "repository-url" not in results.outputs()
    said = results.summary()
    assert "Skipped: it is a dry run" in said
    assert "- would be stored: `keys/y`\n- is there already: `deployments/x/old.apk`" in said
    assert "apk add" not in said


def test_a_summary_of_many_objects_and_problems_stays_below_what_github_takes(tmp_path: Path) -> None:
    problem = Problem("instellar.yml", 1, 1, "", "error", "bad-value", "*No.*", "do | so")
    plan = dataclasses.replace(PUBLICATION, uploaded=tuple(f"deployments/{number}" for number in range(5000)))
    said = outputs.Results(workspace=tmp_path, plan=plan, problems=[problem] * 5000).summary()
    assert len(said.encode()) < 128 * 1024
    assert said.count("- and 4800 more\n") == 2
    assert "- `instellar.yml:1:1` error: \\*No.\\* (do \\| so)\n" in said


def report(*checks: Check) -> Report:
    return Report("notes", "1.0.0-r0", "x86_64", "alpine/3.23", "the sandbox", checks)


def test_a_test_that_passed_is_a_folded_table(tmp_path: Path) -> None:
    made = report(Check("apk add installs it", "passed", 1.25), Check("it is removed", "passed", 0.5))
    results = outputs.Results(workspace=tmp_path, report=made, report_file=tmp_path / "packages/x86_64/report.xml")
    assert results.outputs() == {
        "test-result": "passed",
        "test-report": "packages/x86_64/report.xml",
        "test-skipped": "",
        "skipped": "",
    }
    assert (
        "<details><summary>Package test: all 2 checks passed</summary>\n\n"
        "| Result | Check | Time |\n|---|---|--:|\n"
        "| passed | apk add installs it | 1.2 s |\n| passed | it is removed | 0.5 s |\n\n</details>\n"
    ) in results.summary()


def test_a_test_that_failed_or_could_not_be_made_is_a_table_that_is_seen(tmp_path: Path) -> None:
    made = report(
        Check("the service web starts", "failed", 3, reason="it ended | with `1`"),
        Check("migrate runs", "skipped", reason="DATABASE_URL is missing"),
        Check("console runs", "skipped", reason="DATABASE_URL is missing"),
        Check("it is removed", "skipped", reason="it never came"),
    )
    results = outputs.Results(workspace=tmp_path, report=made)
    assert results.outputs()["test-result"] == "failed"
    assert results.outputs()["test-skipped"] == "DATABASE_URL is missing\nit never came"
    assert "details" not in results.summary()
    assert "| failed | the service web starts: it ended \\| with \\`1\\` | 3.0 s |\n" in results.summary()


def test_a_test_that_was_not_wanted_is_told(tmp_path: Path) -> None:
    results = outputs.Results(workspace=tmp_path, untested="--no-test")
    assert results.outputs() == {"test-result": "skipped", "test-skipped": "--no-test", "skipped": ""}
    assert "| skipped | the package test: --no-test | 0.0 s |\n" in results.summary()


def test_a_test_of_many_checks_stays_below_what_github_takes(tmp_path: Path) -> None:
    made = report(*(Check(f"command {number} runs", "failed", reason="no " * 50) for number in range(5000)))
    said = outputs.Results(workspace=tmp_path, report=made).summary()
    assert len(said.encode()) < 128 * 1024
    assert "| | and 4800 more | |\n" in said

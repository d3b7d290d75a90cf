"""What a package test has come to, in the forms that others read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pakman import manifest
from pakman import test as package_test
from pakman.checks import Check, worth_reading
from pakman.errors import PackageTestError, UsageError
from pakman.test_report import Report, text
from tests.manifests import FULL, TODAY
from tests.repositories import repository

PASSED = Check("it installs", "passed", 0.25)
FAILED = Check("web starts", "failed", 3.0, "run.services[0]", "it ended", ("no \x07 <database>",))
DOUBTED = Check("migrate runs", "warning", 0.1, "run.commands[0]", "exit status 1")
SKIPPED = Check("worker starts", "skipped", path="run.services[7].name", reason="not tested")


def report(*checks: Check) -> Report:
    return Report("shop", "1.2.3-r0", "x86_64", "alpine/3.23", "the sandbox", checks)


@pytest.mark.parametrize(
    ("checks", "result"),
    [
        ((PASSED, FAILED, SKIPPED), "failed"),
        ((PASSED, DOUBTED, SKIPPED), "passed"),
        ((DOUBTED,), "passed"),
        ((SKIPPED,), "skipped"),
        ((), "skipped"),
    ],
)
def test_a_result_is_the_worst_that_matters(checks: tuple[Check, ...], result: str) -> None:
    assert report(*checks).result == result


def test_a_failure_is_status_8_and_names_the_first() -> None:
    package_test.must_have_passed(report(PASSED, DOUBTED, SKIPPED))
    with pytest.raises(PackageTestError, match="web starts: it ended, and 1 more") as caught:
        package_test.must_have_passed(report(PASSED, FAILED, FAILED))
    assert caught.value.exit_code == 8


def test_a_check_is_a_line() -> None:
    assert text(PASSED) == "passed     0.2 s  it installs"
    assert text(FAILED) == "failed     3.0 s  web starts: it ended"
    assert report(PASSED, FAILED, SKIPPED).sentence == "shop 1.2.3-r0: 1 passed, 1 failed, 1 not tested in 3.2 s"


def test_a_junit_file_has_a_case_per_check(tmp_path: Path) -> None:
    report(PASSED, FAILED, DOUBTED, SKIPPED).write_junit(tmp_path / "deep/report.xml")
    top = ET.parse(tmp_path / "deep/report.xml").getroot()
    assert (top.tag, top.attrib["tests"], top.attrib["failures"]) == ("testsuites", "4", "1")
    suite = top[0]
    assert suite.attrib == {
        "name": "shop 1.2.3-r0",
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
        "time": "3.350",
    }
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["system-out"], ["skipped"]]
    failure = suite[1][0]
    # XML has no way to say a bell.
    assert (failure.attrib, failure.text) == ({"message": "it ended", "type": "run.services[0]"}, "no ? <database>")


def test_what_a_hook_has_written_is_no_command_to_a_job() -> None:
    check = Check("web starts", "failed", path="run", reason="##[error]::warning::x", lines=("##[group]",))
    assert "##[" not in text(check) + report(check).to_json()
    assert json.loads(report(check).to_json())["checks"][0]["lines"] == ["##[group]"]


def test_json_has_every_field() -> None:
    found = json.loads(report(PASSED, FAILED).to_json())
    assert (found["result"], found["where"], len(found["checks"])) == ("failed", "the sandbox", 2)
    assert found["checks"][0] == {
        "name": "it installs",
        "result": "passed",
        "seconds": 0.25,
        "path": "",
        "reason": "",
        "lines": [],
    }


def test_what_has_not_passed_is_a_problem_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "instellar.yml"
    file.write_text(FULL)
    root = manifest.read(file, repository=None, today=TODAY).root
    lines = FULL.splitlines()

    def line(path: str) -> str:
        (found,) = report(Check("a", "failed", path=path)).problems(file, root)
        return lines[found.line - 1][found.column - 1 :]

    assert line("run.services[1]") == "name: worker"
    assert line("run.services[1].binary") == "binary: php"
    assert line("hook.post-install") == "post-install: |"
    assert line("kits[0].ports[0].target") == "target: 4000"
    assert line("dependencies.runtime") == "runtime:"
    # The nearest part that is there, else the top.
    assert line("run.services[9].name") == "services:"
    assert line("run.services[1].stop") == "name: worker"
    assert line("nothing") == line("") == lines[0]
    found = report(PASSED, FAILED, DOUBTED, SKIPPED).problems(file, root)
    assert sorted(each.severity for each in found) == ["error", "warning", "warning"]
    assert {each.code for each in found} == {"package-test"}
    assert report(FAILED).problems(file, None)[0][:3] == (str(file), 1, 1)


def test_no_words_stand_twice_in_a_problem() -> None:
    said = ("before it", "sh: greet: not found", " * sh: greet: not found")
    (missing,) = report(Check("greet runs", "failed", reason="no program: sh: greet: not found", lines=said)).problems(
        Path("instellar.yml"), None
    )
    assert (missing.message, missing.hint) == ("greet runs: no program: sh: greet: not found", "before it")
    untested = Check("the package is tested", "skipped", reason="not tested: no repository", lines=("check it",))
    (found,) = report(untested).problems(Path("instellar.yml"), None)
    assert (found.message, found.hint) == ("not tested: no repository", "check it")


def test_openrc_s_complaints_about_a_root_are_left_out() -> None:
    lines = ("Service 'acpid' needs non existent service 'dev'", " * Starting web ...", "", "/sys/fs/cgroup: no")
    assert worth_reading(lines) == (" * Starting web ...",)


def test_the_repository_of_this_machine_is_the_one_that_is_tested(tmp_path: Path) -> None:
    ours = repository(tmp_path, {"shop": b"x"}, arch="x86")
    other = repository(tmp_path, {"shop": b"x"}, arch="aarch64")
    assert package_test.of_this_machine((other, ours), "i686") == ours
    assert package_test.of_this_machine((other, ours), "aarch64") == other
    assert package_test.of_this_machine((other, ours), "x86_64") is None


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for file in (tmp_path / "file/report.xml", tmp_path):
        with pytest.raises(UsageError, match="cannot be written: ") as raised:
            report(PASSED).write_junit(file)
        assert "--junit" in raised.value.hint

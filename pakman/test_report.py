"""What a package test has come to: for the terminal, for other programs, for a job's annotations."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from pakman.apk.output import replacing, writing
from pakman.checks import Check, Result, last_words
from pakman.errors import BuildError, UsageError
from pakman.github import neutralise
from pakman.problems import Problem
from pakman.validation.yaml_tree import Node, path_parts

_WORDS: dict[Result, str] = {
    "passed": "passed",
    "failed": "failed",
    "warning": "passed with a warning",
    "skipped": "not tested",
}


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one package."""

    name: str
    version: str
    """With the release."""
    arch: str
    stack: str
    where: str
    """In what it was tested, e.g. `the sandbox`; empty where it was not."""
    checks: tuple[Check, ...]

    @property
    def result(self) -> Result:
        """`failed` where one check failed; `skipped` where none was made."""
        if any(check.result == "failed" for check in self.checks):
            return "failed"
        return "passed" if any(check.result in ("passed", "warning") for check in self.checks) else "skipped"

    @property
    def seconds(self) -> float:
        """How long the checks took."""
        return sum(check.seconds for check in self.checks)

    @property
    def sentence(self) -> str:
        """What it has come to."""
        counts = Counter(check.result for check in self.checks)
        said = ", ".join(f"{counts[result]} {word}" for result, word in _WORDS.items() if counts[result])
        return f"{self.name} {self.version}: {said} in {self.seconds:.1f} s"

    def to_json(self) -> str:
        """Return it as JSON: `result`, and the fields of each check."""
        found = {key: getattr(self, key) for key in ("name", "version", "arch", "stack", "where", "result")}
        whole = json.dumps({**found, "checks": [asdict(check) for check in self.checks]}, indent=2)
        # GitHub's runner obeys it wherever it stands in a line.
        return whole.replace("##[", "\\u0023#[")

    def write_junit(self, file: Path) -> None:
        """Write it as a JUnit file: one suite, a test case per check. Raises UsageError where that is not possible."""
        try:
            with writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as out:
                ET.ElementTree(self._suites()).write(out, encoding="utf-8", xml_declaration=True)
        except BuildError as error:
            raise UsageError(error.message, hint="name a file that can be written with --junit") from error

    def problems(self, file: Path, root: Node | None) -> list[Problem]:
        """Return what has not passed, each at the place in the manifest `file` that it comes from."""
        return sorted(_problem(check, file, root) for check in self.checks if check.result != "passed")

    def _suites(self) -> ET.Element:
        counts = Counter(check.result for check in self.checks)
        numbers = {
            "tests": str(len(self.checks)),
            "failures": str(counts["failed"]),
            "errors": "0",
            "skipped": str(counts["skipped"]),
            "time": f"{self.seconds:.3f}",
        }
        top = ET.Element("testsuites", {"name": "pakman", **{k: v for k, v in numbers.items() if k != "skipped"}})
        suite = ET.SubElement(top, "testsuite", {"name": _xml(f"{self.name} {self.version}"), **numbers})
        for check in self.checks:
            _add_case(suite, check, self.name)
        ET.indent(top)
        return top


def text(check: Check) -> str:
    """Return a check as one line of a terminal, or of a job's log; its reason may hold what a hook has written."""
    reason = f": {check.reason}" if check.reason else ""
    return neutralise(f"{check.result:<8} {check.seconds:5.1f} s  {check.name}{reason}")


def _add_case(suite: ET.Element, check: Check, package: str) -> None:
    case = ET.SubElement(
        suite, "testcase", {"name": _xml(check.name), "classname": _xml(package), "time": f"{check.seconds:.3f}"}
    )
    output = _xml("\n".join(check.lines))
    if check.result == "failed":
        ET.SubElement(case, "failure", {"message": _xml(check.reason), "type": _xml(check.path)}).text = output
    elif check.result == "skipped":
        ET.SubElement(case, "skipped", {"message": _xml(check.reason)})
    elif check.result == "warning" or check.lines:
        ET.SubElement(case, "system-out").text = "\n".join(filter(None, [_xml(check.reason), output]))


def _xml(value: str) -> str:
    """Return text without the characters that XML has no way to say."""
    return "".join(
        c if c in "\t\n" or "\x20" <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000" else "?"
        for c in value
    )


def _problem(check: Check, file: Path, root: Node | None) -> Problem:
    line, column = _place(root, check.path)
    # Where nothing was tested, the reason says so.
    message = check.reason if check.result == "skipped" and not check.path else f"{check.name}: {check.reason}"
    hint = "\n".join([line for line in check.lines if not _is_said(line, check.reason)][-_LINES:])
    if check.result == "failed":
        return Problem(str(file), line, column, check.path, "error", _CODE, message, hint)
    return Problem(str(file), line, column, check.path, "warning", _CODE, message, hint)


_CODE = "package-test"
_LINES = 20


def _is_said(line: str, reason: str) -> bool:
    """Say whether a reason has a line's words, or begins with those behind a program's name."""
    words = last_words([line])
    after = words.partition(": ")[2]
    return bool(words) and (words in reason or (bool(after) and reason.startswith(after)))


def _place(root: Node | None, path: str) -> tuple[int, int]:
    """Return line and column of a path such as `run.services[0].binary`, or of the nearest part that is there."""
    place = (1, 1)
    for key, node in root.along(path_parts(path)) if root is not None else ():
        here = key if key is not None else node
        place = (here.line, here.column)
    return place

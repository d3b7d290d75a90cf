"""The manifest's own test, while the first service runs."""

from __future__ import annotations

from collections.abc import Iterator

from pakman.checks import OWN_TEST, Check, Subject, last_words, worth_reading
from pakman.checks.install import needs_variables
from pakman.runroots import RunRoot

SECONDS = 300.0


def passes(root: RunRoot, subject: Subject, *, runs: bool) -> Iterator[Check]:
    """Run `test.command` as root, under `sh -e`, where the manifest has one, and its services, if any, `runs`."""
    command = subject.manifest.test.command
    if not command:
        return
    name = OWN_TEST
    if subject.missing_variables:
        yield Check(name, "skipped", path="test.command", reason=f"not tested: {needs_variables(subject)}")
        return
    if subject.services and not runs:
        reason = f"not run: {subject.services[0].name} did not start"
        yield Check(name, "skipped", path="test.command", reason=reason)
        return
    ran = root.run(f"cd /\nset -e\n{command}", SECONDS)
    if ran.status == 0:
        yield Check(name, "passed", ran.seconds, "test.command")
        return
    reason = ": ".join(filter(None, [f"it ended with exit status {ran.status}", last_words(ran.lines)]))
    if ran.status is None:
        reason = f"it has not ended after {SECONDS:.0f} seconds"
    yield Check(name, "failed", ran.seconds, "test.command", reason, worth_reading(ran.lines))

"""The manifest's own test, while the first service runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pakman.checks import OWN_TEST, Check, Subject, last_words, worth_reading
from pakman.checks.install import needs_variables
from pakman.runroots import Ran, RunRoot

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
    # On one line: what the shell says of a line has the manifest's number.
    ran = root.run(f"cd /; set -e; {command}", SECONDS)
    if ran.status == 0:
        yield Check(name, "passed", ran.seconds, "test.command")
        return
    words = last_words(ran.lines).removeprefix("/run/pakman.sh: ")
    reason = f"it ended with exit status {ran.status}{f': {words}' if words else ', without a word'}"
    reason += _way_out(ran)
    if ran.status is None:
        reason = f"it has not ended after {SECONDS:.0f} seconds"
    yield Check(name, "failed", ran.seconds, "test.command", reason, worth_reading(ran.lines))


def _way_out(ran: Ran) -> str:
    """Return what to do about the commonest of failures."""
    said = "\n".join(worth_reading(ran.lines))
    if not said:
        return "; `set -x` as its first line shows how far it comes"
    if ran.status == 127 and (match := re.search(r": ([^\s/:]+): not found$", said)):
        return f"; add the package that has {match[1]} to test.packages"
    if re.search("bad address|Could not resolve host", said):
        return "; the root has no network but its own loopback"
    return ""

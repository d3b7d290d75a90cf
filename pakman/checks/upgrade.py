"""The upgrade from an earlier version: data stays, hooks run in order, a service that ran runs the new files."""

from __future__ import annotations

from shlex import quote as sh

from pakman.checks import Check, Checks, Subject, last_words, worth_reading
from pakman.checks.install import SECONDS, hooks_run, why_apk_failed
from pakman.checks.services import environment, pid, start
from pakman.checks.supplies import NEW, OLD, serving
from pakman.previous import Previous
from pakman.runroots import RunRoot

_DATA = "pakman-test"
"""A name that a star matches, too: `rm -rf /var/lib/shop/*` takes it along."""
_WAIT = 60.0


def upgraded(root: RunRoot, subject: Subject, previous: Previous, *, runs: bool) -> Checks:
    """Install the previous version, live in it, with its service where that `runs`; upgrade.

    Returns whether there is anything to remove afterwards.
    """
    which = f"{previous.version} ({'shipped before' if previous.source else 'itself under a lower version'})"
    script = f"""
        {environment(subject)}
        {serving(OLD)}
        apk add --no-network --no-progress {sh(subject.name)}
    """
    old = root.run(script, SECONDS)
    if old.status != 0:
        reason = f"not tested: {which} does not install here: {why_apk_failed(old, subject)[0]}"
        yield Check("the upgrade", "skipped", old.seconds, "", reason, worth_reading(old.lines))
        return False
    before = root.run(_live(subject), _WAIT)
    is_running = runs and start(root, subject).status == 0
    first = last_words(root.run(f"{pid(subject)}\nsettled", _WAIT).lines) if is_running else ""
    ran = root.run(f"{serving(NEW)}\napk add --no-network --no-progress --upgrade {sh(subject.name)}", SECONDS)
    version = subject.package.version
    name = f"apk upgrades it from {which}"
    if ran.status != 0:
        reason, path = why_apk_failed(ran, subject)
        yield Check(name, "failed", ran.seconds, path, reason, worth_reading(ran.lines))
        return False
    there = root.run(f"apk info --no-network -e {sh(f'{subject.name}={version}')}", _WAIT)
    if there.status != 0:
        reason = f"apk add --upgrade leaves {subject.name} at {previous.version}: is {version} higher?"
        yield Check(name, "failed", ran.seconds, "", reason, worth_reading(ran.lines))
        return True
    yield Check(name, "passed", ran.seconds, lines=worth_reading(ran.lines))
    yield _hooks_in_order(subject, ran.lines)
    after = root.run(_data(subject), _WAIT)
    if before.lines == after.lines and before.status == after.status == 0:
        yield Check("data in it is kept by the upgrade", "passed", after.seconds)
    else:
        reason = f"a file of the application's in /var/lib/{subject.name} is not what it was: {last_words(after.lines)}"
        yield Check("data in it is kept by the upgrade", "failed", after.seconds, _hook(subject), reason, after.lines)
    if is_running:
        yield _runs_anew(root, subject, first)
    return True


def _live(subject: Subject) -> str:
    """Return the script that has the application write a file, and says what it is."""
    is_root = subject.manifest.run is not None and subject.manifest.run.user == "root"
    writes = f"umask 077; echo kept >/var/lib/{subject.name}/{_DATA}"
    user = "root" if is_root else subject.name
    return f"su -s /bin/sh {sh(user)} -c {sh(writes)} && {{ {_data(subject)}; }}"


def _data(subject: Subject) -> str:
    return f"cd /var/lib/{subject.name} && stat -c '%a %U %G' {_DATA} && cat {_DATA}"


def _hook(subject: Subject) -> str:
    return subject.hook_path("post-upgrade" if "post-upgrade" in subject.manifest.hook else "pre-upgrade")


def _hooks_in_order(subject: Subject, lines: tuple[str, ...]) -> Check:
    expected = [kind for kind in ("pre-upgrade", "post-upgrade") if f".{kind}" in subject.control.scripts]
    found = hooks_run(lines, subject.name)
    name = f"the scripts of an upgrade run: {', '.join(expected) or 'none'}"
    if found == expected:
        return Check(name, "passed")
    return Check(name, "failed", 0.0, _hook(subject), f"apk ran {', '.join(found) or 'none'}", worth_reading(lines))


def _runs_anew(root: RunRoot, subject: Subject, first: str) -> Check:
    """A service that ran has to run, and as another process: the one before has the old files open."""
    script = f"""
        {pid(subject)}
        settled >/dev/null
        rc-service {sh(subject.name)} status || exit 1
        pid
    """
    ran = root.run(script, _WAIT)
    second = last_words(ran.lines)
    name = "the service that ran before the upgrade runs the new version"
    if ran.status == 0 and second.isdigit() and second != first:
        return Check(name, "passed", ran.seconds, "run")
    reason = "it was not restarted: it still runs the old files" if second == first else "it does not run any more"
    if "start" not in subject.manifest.hook.get("post-upgrade", "start"):
        reason += (
            f"; a post-upgrade of your own stands in place of pakman's: add `rc-service {subject.name} restart` to it"
        )
    return Check(name, "failed", ran.seconds, _hook(subject), reason, worth_reading(ran.lines))

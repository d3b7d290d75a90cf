"""`apk del`: what is left is what a machine's owner wants to keep, and nothing else."""

from __future__ import annotations

from shlex import quote as sh

from pakman.checks import Check, Subject, worth_reading
from pakman.checks.install import SECONDS, script_failed, why_apk_failed
from pakman.checks.services import nobody_left
from pakman.runroots import RunRoot

_ELSEWHERE = ("/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/var/cache", "/pakman", "/run/openrc", "/root")  # noqa: S108
"""Where whatever comes and goes is nobody's concern."""


def _listing(name: str) -> str:
    left_out = " -o ".join(f"-path {place}" for place in _ELSEWHERE)
    return f"find / -xdev \\( {left_out} \\) -prune -o -print | sort >/pakman/{name}"


NOTED = f"cp /etc/apk/world /pakman/world; {_listing('before')}"
"""The script that notes what there is before the package comes."""


def removed(root: RunRoot, subject: Subject, moment: str) -> Check:
    """Remove the package, with its service running where one does; `moment` says when, e.g. `after the upgrade`."""
    name = subject.name
    check = f"apk del {name} leaves nothing behind{f' {moment}' if moment else ''}"
    ran = root.run(f"apk del --no-network --no-progress {sh(name)}", SECONDS)
    # apk removes it all the same, and is content with itself.
    failed = script_failed(ran, subject) or (why_apk_failed(ran, subject) if ran.status != 0 else None)
    if failed is not None:
        reason, path = failed
        return Check(check, "failed", ran.seconds, path, reason, worth_reading(ran.lines))
    script = f"""
        grep -q {sh(f"^{name}:")} /etc/passwd || echo "the user {name} is gone, and files of it may still be there"
        cmp -s /etc/apk/world /pakman/world || echo "/etc/apk/world is not what it was before"
        ({nobody_left(subject)})
        {_listing("after")}
        awk 'NR == FNR {{ before[$0] = 1; next }} !($0 in before) {{ print "left: " $0 }}' \
            /pakman/before /pakman/after | {_but_for(subject)} || :
    """
    left = root.run(script, SECONDS)
    if not left.lines and left.status == 0:
        return Check(check, "passed", ran.seconds + left.seconds, reason="but its user, its logs and its data")
    count = f", and {len(left.lines) - 1} more" if len(left.lines) > 1 else ""
    reason = f"{left.lines[0] if left.lines else 'what is left cannot be listed'}{count}"
    path = subject.hook_path("pre-deinstall")
    return Check(check, "failed", ran.seconds + left.seconds, path, reason, left.lines[:20])


def _but_for(subject: Subject) -> str:
    """Return the filter for what may stay: data, logs, settings, and apk's and the accounts' own files."""
    name = subject.name.replace(".", "[.]").replace("+", "[+]")
    kept = [f"/var/lib/{name}", f"/var/log/{name}", f"/etc/{name}", "/(usr/)?lib/apk", "/etc/apk"]
    kept.append("/etc/(passwd|shadow|group|gshadow)-?")
    # With the service, OpenRC may have started others, such as syslog: what those have there is not the package's.
    others = f"/^left: .(run|var.log)./ && !/{name}/ {{ next }}"
    return f"grep -vE '^left: ({'|'.join(kept)})(/.*)?$' | awk {sh(f'{others} {{ print }}')}"

"""`apk add`: the package comes in, with every file and account that it promises."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Sequence
from io import BytesIO
from shlex import quote as sh
from tarfile import TarInfo
from tarfile import open as open_tar

from pakman.apk import tar
from pakman.apk.read import PackageFile, read_package
from pakman.buildroots import TOP
from pakman.checks import Check, Checks, Subject, last_words, worth_reading
from pakman.checks.supplies import NEW, serving
from pakman.runroots import Ran, RunRoot

SECONDS = 120.0
"""For apk with all the hooks that it runs."""
_TYPES = {tar.DIRECTORY: stat.S_IFDIR, tar.SYMLINK: stat.S_IFLNK}


def installed(root: RunRoot, subject: Subject) -> Checks:
    """Install it with apk, which verifies index and packages with our public key."""
    name = f"apk add {subject.name} installs it"
    ran = root.run(f"{serving(NEW)}\napk add --no-network --no-progress {sh(subject.name)}", SECONDS)
    if ran.status != 0:
        reason, path = why_apk_failed(ran, subject)
        if subject.missing_variables and path.startswith("hook."):
            # Where the variables are that the application cannot do without, the hook might well succeed.
            reason = f"{reason}; not tested: {needs_variables(subject)}"
            yield Check(name, "skipped", ran.seconds, path, reason, _said(ran))
        else:
            yield Check(name, "failed", ran.seconds, path, reason, _said(ran))
        return False
    yield Check(name, "passed", ran.seconds, lines=_said(ran))
    # Without a word, apk sees to it that what is installed is what was asked for: a package that it has marked as
    # broken makes it fail from now on.
    again = root.run("apk add --no-network --no-progress", SECONDS)
    if again.status != 0:
        reason = f"apk says of what it has installed: {last_words(again.lines)}"
        yield Check("apk finds nothing broken", "failed", again.seconds, "", reason, worth_reading(again.lines))
    yield _files_are_there(root, subject)
    yield _account_is_there(root, subject)
    return True


def needs_variables(subject: Subject) -> str:
    """Return what is missing, and how to give it."""
    missing = subject.missing_variables
    meant = "".join(
        f"; test.environment has {near}: did you mean {key}?"
        for key in missing
        for near in difflib.get_close_matches(key, _undeclared(subject), n=1, cutoff=0.8)
    )
    gives = meant or "; test.environment gives one"
    return f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value here{gives}"


def _undeclared(subject: Subject) -> list[str]:
    declared = {each.get("key") for kit in subject.manifest.kits for each in kit.get("variables") or ()}
    return [key for key in subject.manifest.test.environment if key not in declared]


_SCRIPT_FAILED = re.compile(
    r"ERROR: (?:lib/apk/exec/)?(\S+)\.((?:pre|post)-(?:install|upgrade|deinstall)): (?:script )?(.*)"
)
_RUNS = re.compile(r".*Executing (\S+)\.((?:pre|post)-(?:install|upgrade|deinstall))$")
_OVERWRITES = re.compile(r"ERROR: \S+: trying to overwrite (\S+) owned by (\S+?)\.?$")


def why_apk_failed(ran: Ran, subject: Subject) -> tuple[str, str]:
    """Return why apk has failed, and the manifest path that this comes from."""
    if ran.status is None:
        running = next((match[2] for line in reversed(ran.lines) if (match := _RUNS.match(line))), "")
        what = f"the {running} script" if running else "apk"
        return f"{what} has not ended after {SECONDS:.0f} seconds", subject.hook_path(running) if running else ""
    if said := script_failed(ran, subject):
        return said
    for line in ran.lines:
        if match := _OVERWRITES.match(line):
            is_data = match[1].startswith("var/lib/")
            path = subject.content_path if is_data else "package" if subject.manifest.package is not None else ""
            return f"/{match[1]} belongs to another package: {match[2]}", path
    if any(line.startswith(f"WARNING: opening {NEW}/") and "signature" in line for line in ran.lines):
        return "apk does not trust the repository: its index is not signed with the public key beside it", ""
    error = next((line for line in reversed(ran.lines) if line.startswith("ERROR")), last_words(ran.lines))
    return error.removeprefix("ERROR: "), ""


def script_failed(ran: Ran, subject: Subject) -> tuple[str, str] | None:
    """Return which script apk says has failed, and the manifest path that it comes from."""
    match = next((match for line in ran.lines if (match := _SCRIPT_FAILED.match(line))), None)
    return (f"the {match[2]} script of {match[1]} {match[3]}", subject.hook_path(match[2])) if match else None


def hooks_run(lines: Sequence[str], name: str) -> list[str]:
    """Return the kinds of the scripts of a package that apk says it has run, in their order."""
    found = [match for line in lines if (match := _RUNS.match(line))]
    return [match[2] for match in found if re.fullmatch(rf"{re.escape(name)}-[0-9][^-]*-r[0-9]+", match[1])]


def _said(ran: Ran) -> tuple[str, ...]:
    """Return what the hooks have said, between apk's own lines."""
    return worth_reading([line for line in ran.lines if not re.match(r"\([ 0-9/]+\) |OK: ", line)])


def _files_are_there(root: RunRoot, subject: Subject) -> Check:
    """Compare what is in the packages with what is on the disk: type, mode, owner, group, a link's target."""
    name = "every file is there with its owner and mode"
    lines: list[str] = []
    targets: list[str] = []
    for package in subject.repository.packages:
        for file in read_package(package.path)[1]:
            path = file.path.decode("utf-8", "surrogateescape")
            if file.type == tar.SYMLINK:
                targets.append(f"{path}\t{file.target.decode('utf-8', 'surrogateescape')}")
            # A directory that others have, too, is as they have it.
            if file.type != tar.DIRECTORY or subject.name in path.split("/"):
                lines.append(f"{_mode(file):x} {file.owner.decode()} {file.group.decode()} {path}")
    root.copy_in(_listings(lines, targets), TOP)
    script = """
        cd /
        cut -d' ' -f4- /pakman/files | tr '\\n' '\\0' | xargs -0 -r stat -c '%f %U %G %n' >/pakman/stat 2>/dev/null
        sort /pakman/files >/pakman/want; sort /pakman/stat >/pakman/have
        awk 'NR == FNR { have[$0] = 1; next } !($0 in have) { print; bad = 1 } END { exit bad }' \
            /pakman/have /pakman/want || bad=1
        # apk takes no name with a tab in it.
        while IFS='	' read -r path target; do
            [ "$(readlink "$path")" = "$target" ] || { echo "$path -> $target"; bad=1; }
        done </pakman/links
        exit ${bad:-0}
    """
    ran = root.run(script, SECONDS)
    if ran.status == 0:
        return Check(name, "passed", ran.seconds, reason=f"{len(lines)} files")
    reason = f"{len(ran.lines)} of {len(lines)} files are not as the package has them"
    if "post-install" in subject.manifest.hook:
        # It may well have changed what it found.
        return Check(name, "warning", ran.seconds, "hook.post-install", reason, ran.lines[:15])
    return Check(name, "failed", ran.seconds, subject.content_path, reason, ran.lines[:15])


def _mode(file: PackageFile) -> int:
    return _TYPES.get(file.type, stat.S_IFREG) | (0o777 if file.type == tar.SYMLINK else file.mode)


def _listings(lines: Sequence[str], targets: Sequence[str]) -> BytesIO:
    stream = BytesIO()
    with open_tar(fileobj=stream, mode="w") as packed:
        for name, content in (("pakman/files", lines), ("pakman/links", targets)):
            text = "".join(f"{line}\n" for line in content).encode("utf-8", "surrogateescape")
            entry = TarInfo(name)
            entry.size = len(text)
            packed.addfile(entry, BytesIO(text))
    stream.seek(0)
    return stream


def _account_is_there(root: RunRoot, subject: Subject) -> Check:
    """The package's user and group, with its data directory as home, and no way to log in."""
    name = subject.name
    script = f"""
        IFS=: read -r user _ uid gid _ home shell <<-end
		$(grep {sh(f"^{re.escape(name)}:")} /etc/passwd)
		end
        group=$(awk -F: -v gid="$gid" '$3 == gid {{ print $1 }}' /etc/group)
        echo "$user:$group:$home:$shell"
    """
    ran = root.run(script, SECONDS)
    expected = f"{name}:{name}:/var/lib/{name}:/sbin/nologin"
    found = last_words(ran.lines)
    check = f"the user and group {name} are there"
    if found == expected:
        return Check(check, "passed", ran.seconds)
    reason = (
        f"/etc/passwd and /etc/group say {found}, expected {expected}" if found != ":::" else "there is no such user"
    )
    return Check(check, "failed", ran.seconds, "", reason)

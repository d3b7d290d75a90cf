"""What Alpine refuses in a package's tree: abuild's `postcheck` and `archcheck`, as far as the tree itself tells.

Not here: text relocations, which take a look into each program's dynamic section.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from pakman.apk import tar
from pakman.apk.read import PackageFile
from pakman.apk.tree import Entry
from pakman.errors import BuildError

_NOT_OURS = ("srv", "usr/local", "opt", "tmp", "var/tmp", "var/lock", "var/empty", "home", "sys", "proc", "mnt", "dev")
"""What belongs to the machine's owner or the kernel, not to a package (the Filesystem Hierarchy Standard)."""
_EXECUTABLE = 0o111
HINT = "change what build.destinations or package puts there; an application's own place is /var/lib/NAME"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, or doubtful, with a path in the package."""

    is_error: bool
    text: str


def check(
    name: str, entries: Collection[Entry], *, options: Collection[str], binaries: Collection[bytes], noarch: bool
) -> list[Finding]:
    """Return what is wrong with the tree of the package `name`; `binaries` are the paths of its ELF files."""
    found: list[Finding] = []
    for entry in entries:
        path = entry.path.decode("utf-8", "replace")
        found += _place(path, entry, options)
        found += _mode(path, entry, options)
        found += _openrc(name, path, entry)
    if noarch and binaries and "!archcheck" not in options:
        first = min(binaries).decode("utf-8", "replace")
        found.append(_error(f"/{first} is a program for one architecture, and the package is noarch"))
    return found


def refuse(name: str, findings: Iterable[Finding], on_notice: Callable[[str], None]) -> None:
    """Pass on what is doubtful; raise one BuildError for all that is wrong."""
    wrong = []
    for finding in findings:
        if finding.is_error:
            wrong.append(finding.text)
        else:
            on_notice(f"{name}: {finding.text}")
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise BuildError(
            f"{name} is not what Alpine takes for a package: {'; '.join(wrong[:3])}{more}",
            hint=HINT,
        )


def empty(package: str, main: str) -> BuildError:
    """Return the error for a package, the `main` one or one split off it, that has no files."""
    made = "put nothing into it" if package == main else "installs no init script into /etc/init.d"
    return BuildError(
        f"{package} would be empty: package() {made}",
        hint="does build.destinations name what the build command makes?",
    )


def missing(programs: Iterable[str], entries: Collection[Entry] | Collection[PackageFile]) -> list[str]:
    """Return which programs, paths relative to /, a package holds neither as an executable file nor as a link."""
    runnable = {
        os.fsdecode(entry.path)
        for entry in entries
        if entry.type == tar.SYMLINK or (entry.type in (tar.FILE, tar.HARDLINK) and entry.mode & _EXECUTABLE)
    }
    linked = tuple(f"{os.fsdecode(entry.path)}/" for entry in entries if entry.type == tar.SYMLINK)
    return [program for program in programs if program not in runnable and not program.startswith(linked)]


def _error(text: str) -> Finding:
    return Finding(is_error=True, text=text)


def _doubt(text: str) -> Finding:
    return Finding(is_error=False, text=text)


def _place(path: str, entry: Entry, options: Collection[str]) -> Iterator[Finding]:
    if "!fhs" not in options:
        if path.rpartition("/")[0] in _NOT_OURS:
            yield _error(f"/{path} is in a directory that packages leave alone")
        if path == "usr/var" and entry.type == tar.DIRECTORY:
            yield _error("/usr/var is not a place that Alpine has; /var is meant")
    if path in ("lib64", "usr/lib64") and "lib64" not in options:
        yield _error(f"/{path} does not exist on Alpine; libraries go into /usr/lib")
    if path in ("bin", "sbin", "lib") and "!usrmerge" not in options:
        yield _doubt(f"/{path} should be /usr/{path.removeprefix('s')}")
    if entry.type == tar.FILE and re.fullmatch(r"usr/share/man/.*\.[0-8]", path):
        yield _error(f"/{path} is a manual page that is not compressed")


def _mode(path: str, entry: Entry, options: Collection[str]) -> Iterator[Finding]:
    if entry.type == tar.DIRECTORY and entry.mode & 0o777 == 0o777:
        yield _doubt(f"everyone may write into /{path}")
    if entry.type != tar.FILE:
        return
    if entry.mode & (stat.S_ISUID | stat.S_ISGID) and entry.mode & stat.S_IXOTH and "suid" not in options:
        yield _error(f"/{path} runs with its owner's rights (setuid) whoever starts it")
    if any(key == b"security.capability" for key, _ in entry.xattrs) and "setcap" not in options:
        yield _error(f"/{path} has capabilities of its own")


def _openrc(name: str, path: str, entry: Entry) -> Iterator[Finding]:
    match = re.fullmatch(r"etc/(init|conf)\.d/(?:user/)?[^/]+", path)
    if match is None or entry.type != tar.FILE:
        return
    executable = bool(entry.mode & _EXECUTABLE)
    if match[1] == "init" and not executable:
        yield _error(f"/{path} is an init script and not executable")
    if match[1] == "conf" and executable:
        yield _doubt(f"/{path} holds settings and should not be executable")
    if not name.endswith("-openrc"):
        yield _doubt(f"/{path} belongs into {name}-openrc")

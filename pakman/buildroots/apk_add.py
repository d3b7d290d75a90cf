"""Adding packages to a build root, and what apk's refusals mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pakman.errors import BuildError

Run = Callable[[Sequence[str]], tuple[int, list[str]]]
"""Runs a program in the build root, as root; returns its exit status and the lines that it wrote."""

_APK_ADD = ("apk", "add", "--no-progress")
_REPOSITORIES = ("sed", "-n", "s/^[^#].*[[:space:]]//; /^[^#]/p", "/etc/apk/repositories")


def add(words: Sequence[str], run: Run, on_line: Callable[[str], None], *, release: str) -> None:
    """Add `words` (`name`, `name>=1.2`, `so:…`); raise BuildError naming what cannot be had, where from, a way out."""
    if not words:
        return
    # Without repositories first: what the root has already needs none, and looking for a mirror in vain takes a while.
    # Nor from apk's cache alone: without the network that would be as old as it is, for ever.
    status, said = run([*_APK_ADD, "--no-network", "--repositories-file", "/dev/null", "--", *words])
    if status != 0:
        status, said = run([*_APK_ADD, "--", *words])
    for line in said:
        if not line.startswith("WARNING: opening from cache"):
            on_line(line)
    if status != 0:
        raise refusal(words, said, repositories=run(_REPOSITORIES)[1], release=release)


_UNREACHABLE = re.compile(r"WARNING: .*?(?:https?://|/)\S+/APKINDEX\.tar\.gz: (.+)")
_MISSING = re.compile(r"  (\S+) \(no such package\):")
_FOUND = re.compile(r"  (\S+):")
_BREAKS = re.compile(r"    breaks: .*?world\[([^]]+)\]")


def refusal(words: Sequence[str], said: Sequence[str], *, repositories: Sequence[str], release: str) -> BuildError:
    """Return the error for what apk wrote when it refused to add `words`."""
    missing = [match[1] for line in said if (match := _MISSING.fullmatch(line))]
    broken: list[str] = []
    found = ""
    for line in said:
        found = match[1] if (match := _FOUND.fullmatch(line)) else found
        broken += [f"{match[1]} (there is {found})"] if (match := _BREAKS.match(line)) else []
    unreachable = [match[1] for line in said if (match := _UNREACHABLE.fullmatch(line))]
    names = ", ".join(dict.fromkeys([*missing, *broken])) or " ".join(words)
    asked = ", ".join(repositories) or "no repository: /etc/apk/repositories is empty"
    if unreachable:
        return BuildError(
            f"the build needs {names}, which the Alpine root does not have, and the repositories cannot be "
            f"reached ({unreachable[0]}): {asked}",
            hint="check the network, or give --rootfs an Alpine root in which it is installed",
        )
    if missing or broken:
        branch = ".".join(release.split(".")[:2])
        return BuildError(
            f"the build needs {names}, which Alpine {release} does not have; asked: {asked}",
            hint=f"correct dependencies.build; https://pkgs.alpinelinux.org/packages?branch=v{branch} finds packages",
        )
    reason = next((line for line in reversed(said) if "ERROR" in line), "".join(said[-1:]))
    return BuildError(f"apk cannot add {names}: {reason.removeprefix('ERROR: ')}; asked: {asked}")

"""Adding packages to a build root: which repositories are asked, and what apk's refusals mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pakman.errors import BuildError
from pakman.stack import ROOTS_OWN


class UnreachableError(BuildError):
    """None of the repositories can be reached: what was to be added may well be in them."""


Run = Callable[[Sequence[str]], tuple[int, list[str]]]
"""Runs a program in the build root, as root; returns its exit status and the lines that it wrote."""

_APK_ADD = ("apk", "add", "--no-progress")
_APK_CLEAN = ("apk", "cache", "clean", "--no-network")
_NO_REPOSITORIES = ("--repositories-file", "/dev/null")
_REPOSITORIES = ("sed", "-n", "s/^[^#].*[[:space:]]//; /^[^#]/p", "/etc/apk/repositories")
_SILENCE = 15
"""Seconds without an answer after which a mirror counts as unreachable; apk's own patience is a minute per line."""


def add(
    words: Sequence[str],
    run: Run,
    on_line: Callable[[str], None],
    *,
    release: str,
    repositories: Sequence[tuple[str, ...]] = (ROOTS_OWN,),
    on_warning: Callable[[str], None] = lambda _: None,
) -> Sequence[tuple[str, ...]]:
    """Add `words` (`name`, `name>=1.2`, `so:…`) from the first of several sets of repositories that can be reached.

    `repositories` as in Stack; returns those from the one that answered on: what is added next need not ask in vain
    again. Each that cannot be reached is a warning. Raises BuildError naming what cannot be had, where from, a way out.
    """
    if not words:
        return repositories
    # Without repositories first: what the root has already needs none, and looking for a mirror in vain takes a while.
    status, said = _added_installed(words, run, on_line)
    if status == 0:
        return repositories
    own = run(_REPOSITORIES)[1]
    failures: list[str] = []
    asked = _asked(repositories, own)
    for place, lines in asked:
        status, said = run([*_APK_ADD, *_timeout(release), *_instead(repositories[place]), "--", *words])
        failure = _failure(said, lines)
        if failure is None and status != 0:
            raise refusal(words, said, repositories=lines, release=release)
        if failure is not None:
            failures.append(failure)
            if status == 0 or len(failures) < len(asked):
                on_warning(f"{failure}: {'what is needed was there' if status == 0 else 'the next in order is asked'}")
        if status == 0:
            _tell(said, on_line)
            # What none of these has any more need not be kept (buildroots/caches.py).
            run([*_APK_CLEAN, *_instead(repositories[place])])
            return repositories[place:]
    if not failures:
        raise refusal(words, said, repositories=own, release=release)
    raise UnreachableError(
        f"the build needs {_wanted(words, said)}, which the Alpine root does not have, and none of the repositories "
        f"serve: {'; '.join(failures)}",
        hint="check the network, name a mirror that can be reached (--mirror, apk-mirrors in .pakman.toml), or give "
        "--rootfs an Alpine root in which it is installed",
    )


def add_installed(words: Sequence[str], run: Run, on_line: Callable[[str], None]) -> bool:
    """Add `words` where the root has all of it already, which takes no repository; say whether it has."""
    return _added_installed(words, run, on_line)[0] == 0


def _added_installed(words: Sequence[str], run: Run, on_line: Callable[[str], None]) -> tuple[int, list[str]]:
    # Nor from apk's cache alone: without the network that would be as old as it is, for ever.
    status, said = run([*_APK_ADD, "--no-network", *_NO_REPOSITORIES, "--", *words])
    if status == 0:
        _tell(said, on_line)
    return status, said


def _asked(repositories: Sequence[tuple[str, ...]], own: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the place of each set that is worth asking, and its lines: none that is empty, none a second time."""
    first: dict[tuple[str, ...], int] = {}
    for place, lines in enumerate(repositories):
        first.setdefault(tuple(own) if lines == ROOTS_OWN else lines, place)
    return [(place, lines) for lines, place in first.items() if lines]


def _instead(lines: Sequence[str]) -> list[str]:
    """Return the arguments that have apk ask these repositories and none of the root's own."""
    if not lines:
        return []
    return [*_NO_REPOSITORIES, *(word for line in lines for word in ("--repository", line))]


def _timeout(release: str) -> list[str]:
    # apk-tools 2.14, which Alpine 3.18 brought, was the first to know it.
    return [] if re.match(r"3\.(\d|1[0-7])(\D|$)", release) else ["--timeout", str(_SILENCE)]


def _tell(said: Sequence[str], on_line: Callable[[str], None]) -> None:
    for line in said:
        if not line.startswith("WARNING: opening from cache"):
            on_line(line)


_UNREACHABLE = re.compile(r"WARNING: .*?((?:https?://|/)\S+)/[^/]+/APKINDEX\.tar\.gz: (.+)")
_NOT_COME = re.compile(r"ERROR: (\S+-r\d+): (?!trying to overwrite|failed to rename)(.+)")


def _failure(said: Sequence[str], lines: Sequence[str]) -> str | None:
    """Return which repository could not be asked, or which package did not come, and why; None for other refusals."""
    for line in said:
        if match := _UNREACHABLE.fullmatch(line):
            return f"{match[1]} cannot be reached ({match[2]})"
        if match := _NOT_COME.fullmatch(line):
            return f"{match[1]} does not come from {lines[0]} ({match[2]})"
    return None


_MISSING = re.compile(r"  (\S+) \(no such package\):")
_FOUND = re.compile(r"  (\S+):")
_BREAKS = re.compile(r"    breaks: .*?world\[([^]]+)\]")


def refusal(words: Sequence[str], said: Sequence[str], *, repositories: Sequence[str], release: str) -> BuildError:
    """Return the error for what apk wrote when repositories that could be asked did not let it add `words`."""
    missing = _missing(said)
    names = _wanted(words, said)
    asked = ", ".join(repositories) or "no repository: /etc/apk/repositories is empty"
    if missing:
        branch = ".".join(release.split(".")[:2])
        return BuildError(
            f"the build needs {names}, which Alpine {release} does not have; asked: {asked}",
            hint=f"correct dependencies.build; https://pkgs.alpinelinux.org/packages?branch=v{branch} finds packages",
        )
    reason = next((line for line in reversed(said) if "ERROR" in line), "".join(said[-1:]))
    return BuildError(f"apk cannot add {names}: {reason.removeprefix('ERROR: ')}; asked: {asked}")


def _wanted(words: Sequence[str], said: Sequence[str]) -> str:
    return ", ".join(_missing(said)) or " ".join(words)


def _missing(said: Sequence[str]) -> list[str]:
    """Return the words that apk found nothing for, and what there is instead."""
    missing = [match[1] for line in said if (match := _MISSING.fullmatch(line))]
    broken: list[str] = []
    found = ""
    for line in said:
        found = match[1] if (match := _FOUND.fullmatch(line)) else found
        broken += [f"{match[1]} (there is {found})"] if (match := _BREAKS.match(line)) else []
    return list(dict.fromkeys([*missing, *broken]))

"""apk's version grammar and order, and the way from a git tag into it.

Grammar and order: apk-package(5) of apk-tools 3, and what `apk version --check` and `apk version -t` answer.

    number{.number}…{letter}{_suffix{number}}…{~hash}{-rN}
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from pakman.errors import UsageError

_BEFORE = ("alpha", "beta", "pre", "rc")
"""Suffixes of what comes before the plain version, in apk's order."""
_AFTER = ("cvs", "svn", "git", "hg", "p")
"""Suffixes of what comes after it, in apk's order."""

_Part = tuple[int, int, str]
"""What a part is (below), then its value as a number, then as text; parts compare as these tuples do."""

# Where two versions first differ in what stands there at all, apk sorts by what it is, in this order.
_SUFFIX_BEFORE, _INVALID, _END, _RELEASE, _HASH, _SUFFIX_NUMBER, _SUFFIX_AFTER, _LETTER, _NUMBER = range(9)

_DIGITS = re.compile(r"[0-9]+")
_DOTTED = re.compile(r"\.([0-9]+)")
_ONE_LETTER = re.compile(r"[a-z]")
_SUFFIX = re.compile(r"_([a-z]+)([0-9]*)")
_COMMIT = re.compile(r"~([0-9a-f]+)")
_REVISION = re.compile(r"-r([0-9]+)")
_VALID = re.compile(
    rf"[0-9]+(?:\.[0-9]+)*[a-z]?(?:_(?:{'|'.join(_BEFORE + _AFTER)})[0-9]*)*(?:~[0-9a-f]+)?(?:-r[0-9]+)?"
)
"""All of it in one step: an index has fifty thousand versions."""


def is_valid(text: str) -> bool:
    """Say whether apk takes this as a package's version; `-rN` may be there or not."""
    return _VALID.fullmatch(text) is not None


def is_valid_pkgver(text: str) -> bool:
    """Say whether this can be pkgver in an APKBUILD: abuild appends `-r$pkgrel`, so it must not have one yet."""
    return is_valid(f"{text}-r0")


def compare(a: str, b: str) -> int:
    """Return -1, 0 or 1 as `a` is older than, as new as, or newer than `b` to apk.

    As in apk, versions that are not valid compare too, up to where they stop being valid.
    """
    key_a, key_b = sort_key(a), sort_key(b)
    return (key_a > key_b) - (key_a < key_b)


def matches(text: str, operator: str, wanted: str) -> bool:
    """Say whether a version meets what a dependency word demands: an operator of names.OPERATORS, and a version.

    `~1.2` is met by all that begins with 1.2: 1.2, 1.2.3, 1.2-r4, but not 1.20.
    """
    key, beginning = sort_key(text), sort_key(wanted)[:-1]
    if "~" in operator and key[: len(beginning)] == beginning:
        return True
    return {-1: "<", 0: "=", 1: ">"}[compare(text, wanted)] in operator


def sort_key(text: str) -> tuple[_Part, ...]:
    """Return what `sorted` and `max` need as `key` to put versions into apk's order."""
    return tuple(_parts(text))


def _parts(text: str) -> Iterator[_Part]:
    first = _DIGITS.match(text)
    if first is None:
        yield _INVALID, 0, ""
        return
    yield _NUMBER, _number(first[0]), ""
    at = first.end()
    while dotted := _DOTTED.match(text, at):
        # With a leading zero on either side apk compares the text: 1.09 < 1.1. Such a text is below all others.
        yield (_NUMBER, -1, dotted[1]) if dotted[1][0] == "0" else (_NUMBER, _number(dotted[1]), "")
        at = dotted.end()
    if letter := _ONE_LETTER.match(text, at):
        yield _LETTER, 0, letter[0]
        at = letter.end()
    while (suffix := _SUFFIX.match(text, at)) and suffix[1] in _BEFORE + _AFTER:
        yield _suffix_part(suffix[1])
        if suffix[2]:
            yield _SUFFIX_NUMBER, _number(suffix[2]), ""
        at = suffix.end()
    if commit := _COMMIT.match(text, at):
        yield _HASH, 0, commit[1]
        at = commit.end()
    if revision := _REVISION.match(text, at):
        yield _RELEASE, _number(revision[1]), ""
        at = revision.end()
    yield (_END if at == len(text) else _INVALID), 0, ""


def _suffix_part(name: str) -> _Part:
    return (_SUFFIX_BEFORE, _BEFORE.index(name), "") if name in _BEFORE else (_SUFFIX_AFTER, _AFTER.index(name), "")


def _number(digits: str) -> int:
    # apk counts in 64 bits and wraps around; 25 digits at a time because int() refuses very long ones.
    value = 0
    for start in range(0, len(digits), 25):
        chunk = digits[start : start + 25]
        value = (value * 10 ** len(chunk) + int(chunk)) % 2**64
    return value


_PREFIX = re.compile(r"v?(?=[0-9])|.*?[-_/@](?=v[0-9]|[0-9]+\.[0-9])v?")
"""What stands before the version in a tag: `v`, `release-`, `shop-v`, `apps/shop@`; `phase-2` has no version."""

_NUMBERS = r"(?P<numbers>[0-9]+(?:\.[0-9]+)*)"
_NAMED = re.compile(rf"[-_.]?({'|'.join(_BEFORE + _AFTER)})(?:[-_.]?([0-9]+))?")
_MAPPED = re.compile(rf"{_NUMBERS}(?P<letter>[a-z]?)(?P<suffixes>(?:{_NAMED.pattern})*)")


def looks_like_version(tag: str) -> bool:
    """Say whether a tag is meant as a version (v1.2, shop-v1.2+build) or as something else (latest, phase-2)."""
    return _after_prefix(tag) is not None


def from_tag(tag: str) -> str:
    """Return a git tag as pkgver: v1.2.3 is 1.2.3, v1.2.3-rc.1 is 1.2.3_rc1, shop-v1.2.3-beta is 1.2.3_beta.

    Raises UsageError, with the nearest valid form, where nothing can be left out without changing what the tag says.
    """
    text = _after_prefix(tag)
    if text is not None:
        if is_valid_pkgver(text):
            return text
        mapped = _MAPPED.fullmatch(text)
        if mapped is not None:
            suffixes = "".join(f"_{name}{number}" for name, number in _NAMED.findall(mapped["suffixes"]))
            return f"{mapped['numbers']}{mapped['letter']}{suffixes}"
    raise refusal(tag)


def refusal(tag: str) -> UsageError:
    """Return the error that says a tag is no version to apk, and which one is nearest."""
    near = nearest(tag)
    hint = (
        "name tags like v1.2.3 or v1.2.3-rc.1, or give --package-version"
        if near is None
        else f"the nearest that apk takes is {near}: tag it v{near.replace('_', '-')}, or give --package-version {near}"
    )
    return UsageError(f"the tag {tag} is not a version that apk can order", hint=hint)


def _after_prefix(tag: str) -> str | None:
    text = tag.lower()
    prefix = _PREFIX.match(text)
    return text[prefix.end() :] if prefix is not None and text.isascii() else None


_LOOSE_NUMBERS = re.compile(r"[0-9]+(?:[-_.][0-9]+)*")
_LOOSE_WORD = re.compile(r"[-_.]*([a-z]+)[-_.]*([0-9]*)")
_MEANT = (
    {name: name for name in _BEFORE + _AFTER}
    | {"a": "alpha", "b": "beta", "c": "rc"}
    | dict.fromkeys(("canary", "dev", "nightly", "preview", "snapshot"), "pre")
)
"""Words that people put behind a version, and the suffix that says it to apk."""


def nearest(text: str) -> str | None:
    """Return the valid pkgver that is most likely meant: 1.2.3+build is 1.2.3, 1.2.3-dev is 1.2.3_pre, v2 is 2.

    It is a suggestion for a person, not a mapping: words that say nothing to apk are left out. None where there is no
    number to begin with.
    """
    rest = _after_prefix(text)
    if rest is None or is_valid_pkgver(rest):
        return rest
    # Build metadata and a release number are no part of pkgver.
    rest = re.sub(r"-r[0-9]+$", "", rest.partition("+")[0])
    numbers = _LOOSE_NUMBERS.match(rest)
    if numbers is None:
        return None
    version = re.sub(r"[-_]", ".", numbers[0])
    word = _LOOSE_WORD.match(rest, numbers.end())
    return f"{version}_{_MEANT[word[1]]}{word[2]}" if word is not None and word[1] in _MEANT else version


def after(version: str, commit_time: int) -> str:
    """Return the pkgver of a commit made after a version, at `commit_time` (seconds since 1970, UTC).

    apk puts it after that version and before the next one, be that a release or a further pre-release.
    """
    base = version.partition("~")[0]
    if _SUFFIX_WITHOUT_NUMBER.search(base):
        # To apk 1.2_rc_git2024 is newer than 1.2_rc1, which is the next tag; 1.2_rc0_git2024 is not.
        base += "0"
    return f"{base}_git{time.strftime('%Y%m%d%H%M%S', time.gmtime(commit_time))}"


_SUFFIX_WITHOUT_NUMBER = re.compile(r"_[a-z]+$")


def before(version: str) -> str:
    """Return a version, release included, that apk upgrades from to `version`, the nearest one that is easily named.

    1.2.3-r4 is 1.2.3-r3; 1.2.3-r0 is 1.2.3_alpha-r0, because an _alpha of anything comes before it.
    """
    pkgver, _, release = version.partition("-r")
    if release and _number(release) > 0:
        return f"{pkgver}-r{_number(release) - 1}"
    numbers, tilde, commit = pkgver.partition("~")
    return f"{numbers}_alpha{tilde}{commit}-r0"

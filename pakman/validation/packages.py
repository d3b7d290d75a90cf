"""What `dependencies` names, held against what a stack's repositories have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal
from urllib.parse import quote

from pakman import names, version
from pakman.apk.index import Stanza
from pakman.stack import Stack
from pakman.validation.checks import fault
from pakman.validation.yaml_tree import Fault, Node, quoted, shown

Versions = dict[str, set[str]]
"""Of all that can be depended on: by name (`curl`, `cmd:curl`, `so:libcurl.so.4`) the versions that there are, "" for
what is provided without one."""

Offers = Mapping[str, Mapping[str, Versions]]
"""What there is, by architecture, then by the repository's tag, which is mostly ""."""

Severity = Literal["error", "warning"]


def add(versions: Versions, stanzas: Iterable[Stanza]) -> None:
    """Add an index's packages, and what they provide, to what there is."""
    for stanza in stanzas:
        fields = {line[:1]: line[2:] for line in stanza.text.split("\n")}
        versions.setdefault(fields.get("P", ""), set()).add(fields.get("V", ""))
        for word in fields.get("p", "").split():
            name, _, provided = word.partition("=")
            versions.setdefault(name, set()).add(provided)


def faults(root: Node, stack: Stack, offers: Offers, own: str) -> Iterator[tuple[Severity, Fault]]:
    """Yield each word of `dependencies` that no repository answers to; `own` is the name of the package to be built.

    What a build needs and cannot have is an error. A machine may know another repository (its own packages are in
    one), so that what is needed there is a warning.
    """
    severities: dict[str, Severity] = {"build": "error", "runtime": "warning"}
    for key, severity in severities.items():
        for index, node in root.mapping("dependencies").items(key, str):
            word = node.value
            # What must not be there need not be anywhere; what pakman makes itself is in no repository yet.
            if word.startswith("!") or names.dependency_name(word) in (own, f"{own}-openrc"):
                continue
            found = _words(word, stack, offers)
            if found is not None:
                code, message, hint = found
                yield severity, fault(node, ["dependencies", key, index], code, message, hint)


def answers(versions: Versions, word: str) -> bool:
    """Say whether one of these is what a dependency word names, whatever its tag.

    What is provided without a version apk takes only where another word, or a provider's priority, chooses the package;
    that much is not known here, and nothing said about it.
    """
    name, operator, wanted = _split(word)
    # To apk, no version meets no demand for one.
    there = versions.get(name, set())
    return bool(there if not operator else [each for each in there if each and version.matches(each, operator, wanted)])


def _split(word: str) -> tuple[str, str, str]:
    """Return a word's name, operator and version, without its tag."""
    name = names.dependency_name(word)
    rest = word[len(name) :].partition("@")[0]
    wanted = rest.lstrip("<>=~")
    return name, rest[: len(rest) - len(wanted)], wanted


def _words(word: str, stack: Stack, offers: Offers) -> tuple[str, str, str] | None:
    """Return code, message and hint for a word that is not answered to; None for one that is."""
    name = _split(word)[0]
    tag = word.partition("@")[2]
    there: dict[str, Versions] = {}
    for arch, by_tag in offers.items():
        if tag and tag not in by_tag:
            return None  # a repository of the build root's own, which nobody here has asked
        there[arch] = {name: by_tag.get("", {}).get(name, set()) | by_tag.get(tag, {}).get(name, set())}
    missing = [arch for arch, versions in there.items() if not versions[name]]
    if missing:
        what = f"nothing that provides {quoted(name)}" if ":" in name else f"no package {quoted(name)}"
        message = f"{stack.name} has {what} for {', '.join(missing)}"
        return "unknown-package", message, _hint(name, stack, _all_names(offers, missing))
    unmet = [arch for arch, versions in there.items() if not answers(versions, word)]
    if not unmet:
        return None
    newest = max(there[unmet[0]][name], key=version.sort_key)
    has = f"{shown(name)} {shown(newest)}" if newest else f"{shown(name)} without a version"
    message = f"{quoted(word)} is not to be had: {stack.name} has {has} for {', '.join(unmet)}"
    nearest = f"{name}~{_major_and_minor(newest)}" if newest else name
    hint = f"write {quoted(nearest)} or no version, or take another stack; {_page(name, stack)} shows the versions"
    return "unmet-version", message, hint


def _major_and_minor(text: str) -> str:
    return ".".join(text.partition("-r")[0].split(".")[:2])


def _all_names(offers: Offers, architectures: Iterable[str]) -> set[str]:
    return {name for arch in architectures for versions in offers[arch].values() for name in versions}


def _hint(name: str, stack: Stack, known: set[str]) -> str:
    nearest = _nearest(name, known)
    meant = f"did you mean {shown(nearest)}? " if nearest else ""
    return f"{meant}{_page(name, stack)} finds what there is"


def _nearest(name: str, known: set[str]) -> str | None:
    import difflib

    alpine = names.PACKAGES_ELSEWHERE.get(name, "")
    if alpine in known:
        return alpine
    # Of the same kind only: packages, cmd:, so:, pc:.
    kind, what = _kind(name)
    alike = sorted(rest for each, rest in map(_kind, known) if each == kind)
    if what.lower() in alike:
        return kind + what.lower()
    close = difflib.get_close_matches(what[:80], alike, n=1, cutoff=0.75)
    return kind + close[0] if close else None


def _kind(name: str) -> tuple[str, str]:
    """Return what stands before a name, with its colon, and the rest: `cmd:` and `node`; nothing before a package's."""
    before, colon, rest = name.partition(":")
    return (before + colon, rest) if colon else ("", name)


def _page(name: str, stack: Stack) -> str:
    """Return the page of Alpine's that finds packages by a name, or by a file for `cmd:` and `so:`."""
    kind, what = _kind(name)
    if kind in ("cmd:", "so:"):
        return f"https://pkgs.alpinelinux.org/contents?file={quote(what[:60])}&branch={stack.branch}"
    return f"https://pkgs.alpinelinux.org/packages?name={quote(what[:60])}*&branch={stack.branch}"

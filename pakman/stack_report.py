"""What `pakman stack` says: the stacks there are, what a build for one would use, which to take."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from pakman import stack
from pakman.mirrors import Choice, Choices
from pakman.stack import Stack


def listed(stacks: Sequence[Stack], today: datetime.date) -> str:
    """Return a line per stack: its name, Alpine's branch, its end, a mark on the default."""
    default = stack.newest_supported(today)
    width = max(len(each.name) for each in stacks)
    return "\n".join(
        f"{'*' if each is default else ' '} {each.name:{width}}  {each.branch:5}  {_support(each, today)}"
        for each in stacks
    )


def listed_as_json(stacks: Sequence[Stack], today: datetime.date) -> list[dict[str, Any]]:
    """Return the same for other programs."""
    default = stack.newest_supported(today)
    return [{**_as_json(each, today), "default": each is default} for each in stacks]


def inspected(choices: Choices, today: datetime.date) -> str:
    """Return what a build would use, in which order, and who named it."""
    wanted = choices.stack
    return "\n".join(
        [
            wanted.name,
            f"  Alpine {wanted.version}, branch {wanted.branch}: {_support(wanted, today)}",
            "",
            "build images, in the order they are tried:",
            *_numbered(([each.value], each) for each in choices.build_images),
            "",
            "run images:",
            *_numbered(([each.value], each) for each in choices.run_images),
            "",
            "package repositories:",
            *_numbered((each.value or [_ROOTS_OWN], each) for each in choices.repositories),
        ]
    )


def inspected_as_json(choices: Choices, today: datetime.date) -> dict[str, Any]:
    """Return the same for other programs; no lines of repositories are those that the build root has."""
    return {
        **_as_json(choices.stack, today),
        "build_images": [{"image": each.value, **_named(each)} for each in choices.build_images],
        "run_images": [{"image": each.value, **_named(each)} for each in choices.run_images],
        "repositories": [{"lines": each.value, **_named(each)} for each in choices.repositories],
    }


def suggested(today: datetime.date, *, manifest: str, said: Stack | str | None) -> str:
    """Return which stack to take and why; `said` is what the manifest of this name says, None where there is none.

    A text is what it says about no stack that is known; empty, it names none.
    """
    best = stack.newest_supported(today)
    why = "the newest that Alpine supports" if best.supported(today) else "the newest that this pakman knows"
    return f"{best.name}: {why}, {_until(best, today)}\n{_advice(best, said, manifest, today)}"


def _advice(best: Stack, said: Stack | str | None, manifest: str, today: datetime.date) -> str:
    write = f"write `stack: {best.name}`"
    if said is None:
        return f"there is no {manifest} in this folder; in one, {write}"
    if said == "":
        return f"{manifest} names none, so it is taken until there is a newer one; {write} to stay with it"
    if isinstance(said, str):
        return f"{manifest} says {said}, which pakman does not know; {write}"
    if said.name == best.name:
        return f"{manifest} says so already"
    if said.end_of_life is None:
        return f"{manifest} says {said.name}, which changes every day; {write} for packages that keep working"
    if not said.supported(today):
        return f"{manifest} says {said.name}, {_until(said, today)}; {write}"
    return f"{manifest} says {said.name}, {_until(said, today)}: there is time until then; {write}"


_ROOTS_OWN = "what the build root's own /etc/apk/repositories says"


def _numbered(rows: Iterable[tuple[Sequence[str], Choice[Any]]]) -> list[str]:
    found: list[str] = []
    for number, (lines, choice) in enumerate(rows, 1):
        near = ", first because the bucket is there, too" if choice.is_near else ""
        found.append(f"  {number}. {lines[0]}  ({choice.named_by}{near})")
        found += [f"     {line}" for line in lines[1:]]
    return found


def _named(choice: Choice[Any]) -> dict[str, Any]:
    return {"named_by": choice.named_by, "near": choice.is_near}


def _support(each: Stack, today: datetime.date) -> str:
    if each.end_of_life is None:
        return "never ends: what the next release will be, changing every day"
    return f"supported until {each.end_of_life}" if each.supported(today) else f"ended on {each.end_of_life}"


def _until(each: Stack, today: datetime.date) -> str:
    known = "is supported until" if each.supported(today) else "has had no security updates since"
    return f"which {known} {each.end_of_life}"


def _as_json(each: Stack, today: datetime.date) -> dict[str, Any]:
    return {
        "name": each.name,
        "version": each.version,
        "branch": each.branch,
        "end_of_life": each.end_of_life and each.end_of_life.isoformat(),
        "supported": each.supported(today),
    }

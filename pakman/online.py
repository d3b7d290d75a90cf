"""`pakman validate --online`: a verdict, and what the stack's repositories say about the dependencies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pakman import indexes, names
from pakman.problems import Problem
from pakman.stack import Stack
from pakman.validation import Verdict, packages
from pakman.validation.yaml_tree import Node


def verdict(
    known: Verdict,
    file: Path,
    stack: Stack,
    *,
    repository: str | None,
    clock: Callable[[], float],
    on_warning: Callable[[str], None],
) -> Verdict:
    """Return `known` with a problem for each dependency that the stack's repositories do not have.

    They are asked for each of the manifest's architectures, or this machine's; nobody is where it needs nothing.
    `repository` is the repository's name, where it is known. Raises UsageError where no mirror answers.
    """
    root = known.root
    if root is None or not any(root.mapping("dependencies").items(key, str) for key in ("build", "runtime")):
        return known
    offers = indexes.offers(stack.repositories, _architectures(root), clock=clock, on_warning=on_warning)
    name = root.mapping("run").text("name")
    own = name.value if name is not None else names.slug(repository or "")
    # Of what is no dependency word for apk there is nothing more to say.
    refused = {problem.path for problem in known.problems if problem.severity == "error"}
    found = [
        Problem(str(file), fault.line, fault.column, fault.path, severity, fault.code, fault.message, fault.hint)
        for severity, fault in packages.faults(root, stack, offers, own)
        if fault.path not in refused
    ]
    # That it is called otherwise elsewhere is in the hint.
    paths = {problem.path for problem in found}
    kept = [problem for problem in known.problems if problem.code != "debian-name" or problem.path not in paths]
    return known._replace(problems=tuple(sorted([*kept, *found])))


def _architectures(root: Node) -> list[str]:
    named = [node.value for _, node in root.items("architectures", str) if node.value in names.ARCHITECTURES]
    machine = os.uname().machine
    own = names.ARCHITECTURES_ELSEWHERE.get(machine, machine)
    # A package that is for all of them is built on one.
    return list(dict.fromkeys(own if each in ("noarch", "all") else each for each in named)) or [own]

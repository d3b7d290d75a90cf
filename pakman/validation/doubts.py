"""What is allowed in a manifest, and probably not meant."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from pakman import names, stack
from pakman.stack import Stack
from pakman.validation import programs
from pakman.validation.checks import PACKAGE_LISTS, fault, is_main
from pakman.validation.yaml_tree import Fault, Node, quoted, shown

SERVICE_DEPENDENCIES = ("curl",)
"""What the scripts of a service need in the installed system; added to dependencies.runtime where it is not there."""


def warnings(
    root: Node, lines: list[str], repository: str | None, today: datetime.date, stacks: Sequence[Stack]
) -> Iterator[Fault]:
    """Yield what its author should look at; `lines` are the file's, `repository` is the repository's name."""
    yield from _stack(root, today, stacks)
    yield from _name(root, repository)
    yield from _service_dependencies(root)
    yield from programs.warnings(root, _package(root, repository))
    yield from _debian(root)
    yield from _main_kit(root)
    yield from _service_modes(root)
    yield from _hooks(root, lines, repository)


def _stack(root: Node, today: datetime.date, stacks: Sequence[Stack]) -> Iterator[Fault]:
    newest = stack.newest_supported(today)
    if "stack" not in root.entries:
        message = f"no stack is named, so the newest that Alpine supports is taken: {newest.name}"
        hint = f"write `stack: {newest.name}`, so that it changes only when you change it"
        yield Fault(1, 1, "stack", "no-stack", message, hint)
        return
    node = root.text("stack")
    found = stack.find(node.value, stacks) if node is not None else None
    if node is not None and found is not None and not found.supported(today):
        message = f"{found.name} has had no security updates since {found.end_of_life}"
        supported = ", ".join(known.name for known in stack.supported(today)) or newest.name
        yield fault(node, ["stack"], "stack-end-of-life", message, f"Alpine supports {supported}")


def _name(root: Node, repository: str | None) -> Iterator[Fault]:
    node = root.mapping("run").text("name")
    slug = names.slug(repository or "")
    if node is not None and slug and names.slug(node.value) != slug:
        message = f"the package is called {quoted(node.value)}, and the repository {quoted(repository or '')}"
        hint = f"write `name: {slug}`, unless those who install it know it by the other name"
        yield fault(node, ["run", "name"], "name-differs", message, hint)


def _service_dependencies(root: Node) -> Iterator[Fault]:
    run = root.mapping("run")
    kind = root.entries.get("type")
    if not run.items("services", dict) or (kind is not None and kind.value == "static"):
        return
    dependencies = root.mapping("dependencies")
    there = {names.dependency_name(node.value) for _, node in dependencies.items("runtime", str)}
    missing = [name for name in SERVICE_DEPENDENCIES if name not in there]
    if missing:
        place = dependencies.keys.get("runtime") or root.keys.get("dependencies") or run.keys["services"]
        listed = ", ".join(missing)
        message = f"services need {listed}, which `dependencies.runtime` does not have; it is added"
        hint = f"add `- {missing[0]}` to it"
        yield fault(place, ["dependencies", "runtime"], "services-dependencies", message, hint)


def _package(root: Node, repository: str | None) -> str:
    node = root.mapping("run").text("name")
    return node.value if node is not None else names.slug(repository or "") or "NAME"


def _debian(root: Node) -> Iterator[Fault]:
    for owner, key in PACKAGE_LISTS:
        for index, node in root.mapping(owner).items(key, str):
            alpine = names.PACKAGES_ELSEWHERE.get(names.dependency_name(node.value))
            if alpine is not None:
                path: list[str | int] = [owner, key, index]
                message = f"{quoted(node.value)} is what others call it; Alpine's package is called {alpine}"
                hint = f"write {alpine}; https://pkgs.alpinelinux.org/packages finds the others"
                yield fault(node, path, "debian-name", message, hint)


def _main_kit(root: Node) -> Iterator[Fault]:
    kits = [kit for _, kit in root.items("kits", dict)]
    if kits and not any(is_main(kit) for kit in kits):
        message = "none of the kits is the main one"
        yield fault(root.keys["kits"], ["kits"], "no-main-kit", message, "add `main: true` to one of them")


def _service_modes(root: Node) -> Iterator[Fault]:
    services = [node.value for _, item in root.mapping("run").items("services", dict) if (node := item.text("name"))]
    for index, kit in root.items("kits", dict):
        yield from _modes(kit, ["kits", index], services)
        for number, fork in kit.items("forks", dict):
            yield from _modes(fork, ["kits", index, "forks", number], services)


def _modes(owner: Node, path: list[str | int], services: list[str]) -> Iterator[Fault]:
    for index, variable in owner.items("variables", dict):
        key, value = variable.text("key"), variable.entries.get("default_value")
        if key is None or key.value != "SERVICE_MODE" or value is None or value.value in services:
            continue
        message = f"SERVICE_MODE is {quoted(str(value.value))}, and `run.services` has no service of this name"
        hint = f"it has {', '.join(shown(name) for name in services)}" if services else "it has none at all"
        yield fault(value, [*path, "variables", index, "default_value"], "unknown-service-mode", message, hint)


def _hooks(root: Node, lines: list[str], repository: str | None) -> Iterator[Fault]:
    name = root.mapping("run").text("name")
    service = name.value if name is not None else names.slug(repository or "")
    for hook, node in root.mapping("hook").entries.items():
        if not isinstance(node.value, str):
            continue
        for place, program, argument, action in _service_calls(node, lines):
            path: list[str | int] = ["hook", hook]
            if service and argument != service:
                message = f"this is about the service {quoted(argument)}, and the package's is {quoted(service)}"
                yield fault(place, path, "hook-other-service", message, f"did you mean `{program} … {service}`?")
            elif hook == "post-deinstall" and program == "rc-service" and action == "stop":
                message = "the service's files are gone once post-deinstall runs, so nothing can be stopped here"
                hint = "take the line out: pakman's own pre-deinstall stops and disables the service"
                yield fault(place, path, "stop-in-post-deinstall", message, hint)


_UPDATES = ("add", "del", "delete")


def _service_calls(script: Node, lines: list[str]) -> Iterator[tuple[Node, str, str, str]]:
    """Yield what a script calls rc-service and rc-update with: place, program, the service's name, the action."""
    for number, line in enumerate(script.value.split("\n")):
        if "rc-service" not in line and "rc-update" not in line:
            continue
        words = line.partition("#")[0].replace(";", " ; ").replace("&", " & ").replace("|", " | ").split()
        for at, word in enumerate(words):
            program = word.rpartition("/")[2]
            if program not in ("rc-service", "rc-update"):
                continue
            arguments = [argument.strip("'\"") for argument in words[at + 1 : at + 6] if argument[:1] != "-"][:2]
            if program == "rc-update":
                arguments.reverse()
            if len(arguments) < 2 or arguments[0][:1] in "$;&|" or "$" in arguments[0]:
                continue
            if program == "rc-update" and arguments[1] not in _UPDATES:
                continue
            yield _place(script, number, program, lines), program, arguments[0], arguments[1]


def _place(script: Node, number: int, program: str, lines: list[str]) -> Node:
    """Return where a line of a script stands in the file: below its `|`, else the script itself."""
    row = script.line + number
    if not script.block or row >= len(lines) or program not in lines[row]:
        return script
    return Node(row + 1, lines[row].index(program) + 1, "")

"""What a schema cannot say: the rules that look at several keys at once, or at what a text means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pakman import names, stack
from pakman.stack import Stack
from pakman.validation.yaml_tree import Fault, Node, path_text, quoted, shown


def errors(root: Node, stacks: Sequence[Stack]) -> Iterator[Fault]:
    """Yield what makes a manifest unusable although each of its values has the right shape."""
    yield from _stack(root, stacks)
    yield from _run_name(root)
    yield from _dependencies(root)
    yield from _destinations(root)
    yield from _globs(root)
    yield from _environment(root)
    yield from _sources(root)
    yield from _calls(root)
    yield from _repeated(root, "services")
    yield from _repeated(root, "commands")
    yield from _reserved(root)
    yield from _main_kits(root)
    yield from _ready(root)


def fault(node: Node, path: list[str | int], code: str, message: str, hint: str) -> Fault:
    """Return a fault at a node."""
    return Fault(node.line, node.column, path_text(path), code, message, hint)


def _stack(root: Node, stacks: Sequence[Stack]) -> Iterator[Fault]:
    node = root.text("stack")
    if node is None or stack.find(node.value, stacks) is not None:
        return
    message = f"there is no stack {quoted(node.value)} that pakman knows"
    yield fault(node, ["stack"], "unknown-stack", message, stack.hint(node.value, stacks))


def _run_name(root: Node) -> Iterator[Fault]:
    node = root.mapping("run").text("name")
    if node is None:
        return
    path: list[str | int] = ["run", "name"]
    if node.value in names.USERS:
        message = f"`run.name` cannot be {node.value}: every Alpine machine has a user or group of this name already"
        yield fault(node, path, "reserved-name", message, f"name it after the application: {node.value}-app")
    elif node.value in names.SERVICES:
        message = f"`run.name` cannot be {node.value}: every Alpine machine has a service of this name already"
        yield fault(node, path, "reserved-name", message, f"name it after the application: {node.value}-app")
    elif node.value.isdigit():
        message = f"`run.name` cannot be {quoted(node.value)}: a user's name of digits is taken for a number"
        yield fault(node, path, "bad-name", message, "let it begin with a letter")
    elif names.ends_like_version(node.value):
        message = f"`run.name` cannot be {quoted(node.value)}: its end would be read as the package's version"
        hint = f"the nearest that works is {quoted(names.nearest_package(node.value))}"
        yield fault(node, path, "bad-name", message, hint)


def _dependencies(root: Node) -> Iterator[Fault]:
    for owner, key in PACKAGE_LISTS:
        for index, node in root.mapping(owner).items(key, str):
            if any(sign in node.value for sign in "<>=~@"):
                yield from _dependency(node, [owner, key, index], is_runtime=key == "runtime")


PACKAGE_LISTS = (("dependencies", "build"), ("dependencies", "runtime"), ("test", "packages"))
"""Where a manifest has apk's dependency words."""


def _dependency(node: Node, path: list[str | int], *, is_runtime: bool) -> Iterator[Fault]:
    """What follows the name in a dependency word: an operator and a version, or a repository's tag."""
    from pakman import version

    name = names.dependency_name(node.value)
    rest = node.value[len(name) :]
    number = rest.lstrip("<>=~")
    if rest.startswith("@"):
        if is_runtime:
            message = f"{quoted(node.value)} names a repository's tag, and a package cannot depend on that"
            hint = f"write {quoted(name)}; tags are for dependencies.build"
            yield fault(node, path, "bad-dependency", message, hint)
    elif rest[: len(rest) - len(number)] not in names.OPERATORS or not version.is_valid(number):
        message = f"`{path_text(path)}` is {quoted(node.value)}, which is not how apk names a version of a package"
        hint = f"the nearest that works is {quoted(names.nearest_dependency(node.value))}"
        yield fault(node, path, "bad-dependency", message, hint)


def _destinations(root: Node) -> Iterator[Fault]:
    """Where nothing says what is packed: a typo there would make an empty package."""
    kind = root.entries.get("type")
    build = root.entries.get("build")
    if "package" in root.entries:
        return
    if kind is not None and kind.value == "custom":
        run = root.mapping("run")
        # A service of a program that another package brings needs nothing built.
        built = build is not None and any(key.startswith("dest") for key in build.keys)
        if not built and not any(run.items(key, dict) for key in ("services", "commands")):
            message = "nothing says what is packed: `type: custom` without `package`, `run` or destinations"
            hint = 'write:\npackage: |\n  install -Dm755 bin/app "$pkgdir"/usr/bin/app'
            yield fault(kind, ["type"], "missing-key", message, hint)
        return
    if build is None:
        message = "the manifest does not say what is packed: it has no `build.destinations`"
        yield fault(root, [], "missing-key", message, "write:\nbuild:\n  destinations:\n    - dist")
    elif build.is_mapping and not any(key.startswith("dest") for key in build.keys):
        message = "`build` does not say what is packed: it has no `destinations`"
        key = root.keys["build"]
        yield fault(key, ["build"], "missing-key", message, "write:\n  destinations:\n    - dist")


def _globs(root: Node) -> Iterator[Fault]:
    for key in ("destinations", "exclude"):
        for index, node in root.mapping("build").items(key, str):
            found = _outside(node.value)
            if found is not None:
                message, hint = found
                path: list[str | int] = ["build", key, index]
                yield fault(node, path, "bad-destination", f"`{path_text(path)}` {message}", hint)


def _outside(glob: str) -> tuple[str, str] | None:
    """Say what is wrong with a glob or file name that must stay in the application's directory."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    inside = "/".join(part for part in parts if part != "..")
    if not glob:
        return None  # the schema's
    if "\n" in glob or "\r" in glob:
        return "has more than one line", "write one item for each"
    if glob.startswith("/"):
        hint = f"write it relative to the application's directory: {quoted(inside)}" if inside else "write '*'"
        return "is absolute, and must be in the application's directory", hint
    if ".." in parts:
        hint = f"write it relative to the application's directory: {quoted(inside)}" if inside else "write '*'"
        return "leaves the application's directory with `..`", hint
    if not parts:
        return "names the application's directory itself", "write '*' for all that is in it"
    return None


def _environment(root: Node) -> Iterator[Fault]:
    for name, key in root.mapping("build").mapping("environment").keys.items():
        if names.is_reserved_variable(name):
            message = f"`{shown(name)}` cannot be set here: the build sets it, or its shell or loader obeys it"
            hint = "set it in build.command, for the programs that need it"
            yield fault(key, ["build", "environment", name], "reserved-name", message, hint)
    for name, key in root.mapping("test").mapping("environment").keys.items():
        if names.is_refused_variable(name):
            message = f"`{shown(name)}` cannot be set here: no service takes it from its environment"
            hint = "set it in test.command, for the programs that need it"
            yield fault(key, ["test", "environment", name], "reserved-name", message, hint)


def _sources(root: Node) -> Iterator[Fault]:
    node = root.entries.get("source")
    if node is None:
        return
    path: list[str | int] = ["source"]
    texts = [(path, node, word) for word in node.value.split()] if isinstance(node.value, str) else []
    texts += [([*path, index], item, item.value) for index, item in root.items("source", str)]
    for place, item, word in texts:
        if len(word.split()) > 1:
            message = f"`{path_text(place)}` has a blank in it, and abuild takes each word for a source"
            yield fault(item, place, "bad-destination", message, "write one item for each")
        elif "://" in word:
            message = f"`{path_text(place)}` is an address, and only files of the repository can be sources"
            yield fault(item, place, "bad-destination", message, "fetch it in build.command, and check its digest")
        elif (found := _outside(word)) is not None:
            yield fault(item, place, "bad-destination", f"`{path_text(place)}` {found[0]}", found[1])


def _calls(root: Node) -> Iterator[Fault]:
    run = root.mapping("run")
    for index, service in run.items("services", dict):
        for key, inner in (("start", "call"), ("stop", "call"), ("ready", "command")):
            yield from _call(service.mapping(key).text(inner), ["run", "services", index, key, inner])
    for index, command in run.items("commands", dict):
        yield from _call(command.text("call"), ["run", "commands", index, "call"])


def _call(node: Node | None, path: list[str | int]) -> Iterator[Fault]:
    if node is None or not any(sign in node.value for sign in "'\"\\"):
        return
    import shlex

    try:
        shlex.split(node.value)
    except ValueError:
        message = f"`{path_text(path)}` is not made of shell words: a quote is open at its end"
        yield fault(node, path, "bad-call", message, "close every ' and \" that is opened")


def _repeated(root: Node, key: str) -> Iterator[Fault]:
    first: dict[str, Node] = {}
    for index, item in root.mapping("run").items(key, dict):
        node = item.text("name")
        if node is None:
            continue
        if node.value in first:
            message = (
                f"the name {quoted(node.value)} is here a second time; the first is in line {first[node.value].line}"
            )
            yield fault(node, ["run", key, index, "name"], "repeated-name", message, "give each its own name")
        first.setdefault(node.value, node)


def _reserved(root: Node) -> Iterator[Fault]:
    for index, item in root.mapping("run").items("commands", dict):
        node = item.text("name")
        if node is not None and names.is_reserved_command(node.value):
            message = f"a command cannot be called {quoted(node.value)}: OpenRC or its shell has this name for itself"
            hint = f"call it {quoted('app-' + node.value.strip('_'))}, for instance"
            yield fault(node, ["run", "commands", index, "name"], "reserved-name", message, hint)


def _main_kits(root: Node) -> Iterator[Fault]:
    mains = [(index, kit.entries["main"]) for index, kit in root.items("kits", dict) if is_main(kit)]
    for index, node in mains[1:]:
        message = f"this is a second main kit; the first is in line {mains[0][1].line}"
        yield fault(node, ["kits", index, "main"], "two-main-kits", message, "keep `main: true` in one of them")


def _ready(root: Node) -> Iterator[Fault]:
    mains = [kit for _, kit in root.items("kits", dict) if is_main(kit)]
    has_port = any("target" in port.entries for kit in mains for _, port in kit.items("ports", dict))
    for index, service in root.mapping("run").items("services", dict):
        ready = service.entries.get("ready")
        if ready is not None and ready.is_mapping and not {"port", "command"} & set(ready.entries) and not has_port:
            path: list[str | int] = ["run", "services", index, "ready"]
            message = f"`{path_text(path)}` says neither port nor command, and no main kit has a port"
            yield fault(service.keys["ready"], path, "missing-key", message, "add the port that the service listens on")


def is_main(item: Node) -> bool:
    """Say whether a kit or a port is the main one."""
    return "main" in item.entries and item.entries["main"].value is True

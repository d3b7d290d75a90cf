"""What services and commands run: a program that is likely to lie elsewhere, and a `call` that only a shell would read.

`call` is words for the program itself: no shell expands `$PORT` in them or obeys `&&`.
"""

from __future__ import annotations

from collections.abc import Iterator

from pakman.validation.checks import fault
from pakman.validation.yaml_tree import Fault, Node, path_text, quoted, shown

START = {"services": ("start", "call"), "commands": ("call",)}
"""Below which keys a service's and a command's arguments stand."""

SYSTEM = {
    **dict.fromkeys(("bundle", "elixir", "mix", "java", "php", "node", "npm", "npx", "yarn"), "/usr/bin"),
    **dict.fromkeys(("bun", "deno", "perl", "python3", "ruby"), "/usr/bin"),
    **dict.fromkeys(("caddy", "nginx"), "/usr/sbin"),
    **dict.fromkeys(("ash", "bash", "sh"), "/bin"),
}
"""Programs that Alpine's packages bring, and where."""

_PATH = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
"""Where a service's shell finds a program by its name."""


def warnings(root: Node, name: str) -> Iterator[Fault]:
    """Yield what is probably not meant; `name` is the package's."""
    if (kind := root.text("type")) is not None and kind.value == "static":
        return
    packed = [node.value for _, node in root.mapping("build").items("destinations", str)]
    for key in START:
        for index, item in root.mapping("run").items(key, dict):
            yield from _binary(item, ["run", key, index], packed, name)
            yield from _call(item, ["run", key, index], packed)
            yield from _ready(item.mapping("ready").text("command"), ["run", key, index, "ready", "command"])


def place(program: str, packed: list[str]) -> str | None:
    """Return where a program that was named without its `path` is likely to be, None for where pakman looks anyway.

    It is a whole path in Alpine, or one below /var/lib/NAME; `packed` is `build.destinations`.
    """
    if program in SYSTEM:
        return None if _may_bring(program, packed) else f"{SYSTEM[program]}/{program}"
    parts = [part for part in program.split("/") if part not in ("", ".")]
    tops = [glob.rstrip("/").rpartition("/")[2] for glob in packed]
    if len(parts) > 1 and (parts[0] in ("bin", *tops) or "*" in packed or program.startswith("./")):
        return "/".join(parts)
    if len(parts) == 1 and parts[0] in tops and not any(top == "bin" or "*" in top for top in tops):
        return parts[0]
    return None


def _may_bring(program: str, packed: list[str]) -> bool:
    """Whether a destination may have a bin of its own with this program in it: a release's, a virtual environment's."""
    if SYSTEM[program] == "/bin":
        return False  # nobody packs a shell
    for glob in packed:
        folder, _, last = glob.removeprefix("./").rstrip("/").rpartition("/")
        # A Rails application has bin/bundle, and hardly any has a bin/node at its top.
        if (last == "bin" or "*" in last) and (folder or program == "bundle"):
            return True
    return False


def lines(program: str, call: str, key: str, packed: list[str], name: str, *, path: str = "") -> str:
    """Return what to write for a program and its arguments, as lines of the item of `run.services` or `run.commands`.

    Arguments that need a shell get one.
    """
    if _may_need_shell(call):
        import shlex

        from pakman.validation import shell_words

        if shell_words.for_shell(call, program):
            line = shell_words.line(_start(program, path, packed), call, program)
            path, program, call = "", "sh", f"-c {shlex.quote(line)}"
    where = place(program, packed)
    if where is not None and not path:
        directory, _, program = where.rpartition("/")
        # bin/web of the application is where pakman looks for `web`.
        path = directory if where.startswith("/") else "" if directory == "bin" else f"/var/lib/{name}/{directory}/"
    written = [f"path: {scalar(path.rstrip('/'))}"] if path else []
    written += [f"binary: {scalar(program)}"]
    if call:
        written += ["start:", f"  call: {scalar(call)}"] if key == "services" else [f"call: {scalar(call)}"]
    return "\n".join(written)


def _may_need_shell(call: str) -> bool:
    return any(sign in call for sign in "$`;&|<>*~")


def _start(program: str, path: str, packed: list[str]) -> str:
    """Return what a shell in the application's directory calls a program."""
    where = f"{path.rstrip('/')}/{program}" if path else place(program, packed) or f"bin/{program}"
    directory, _, file = where.rpartition("/")
    return file if directory in _PATH else where if directory else f"./{file}"


def scalar(text: str) -> str:
    """Return a text as YAML has it: quoted where it must be, never shortened."""
    is_plain = text[:1].isalpha() or text[:1] in ("/", ".", "_") or (text[:1] == "-" and text[1:2].strip())
    if is_plain and text.isascii() and text.strip() == text and not any(sign in f"{text} " for sign in (": ", " #")):
        return text if text.lower() not in _YAML else f"'{text}'"
    return "'" + text.replace("'", "''") + "'"


_YAML = frozenset(["true", "false", "yes", "no", "on", "off", "null", "y", "n"])


def _binary(item: Node, path: list[str | int], packed: list[str], name: str) -> Iterator[Fault]:
    node, directory, call = item.text("binary"), item.text("path"), _argument(item, path)
    if node is None:
        return
    program, _, arguments = node.value.partition(" ")
    text = f"`{path_text([*path, 'binary'])}`"
    given = directory.value if directory is not None else ""
    if arguments:
        message = f"{text} is a file's name, and {quoted(node.value)} has a blank in it"
        more = f"{arguments} {call.value}" if call is not None else arguments
        hint = "if it is a program with its arguments, " + _write(
            program, more, str(path[1]), packed, name, directory=given
        )
        yield fault(node, [*path, "binary"], "blank-in-binary", message, hint)
    elif directory is None and place(program, packed) is not None:
        message = f"{text} is looked for as /var/lib/{shown(name)}/bin/{shown(program)}, and is probably not there"
        hint = _write(program, "", str(path[1]), packed, name)
        yield fault(node, [*path, "binary"], "program-elsewhere", message, hint)


def _argument(item: Node, path: list[str | int]) -> Node | None:
    return item.mapping("start").text("call") if path[1] == "services" else item.text("call")


def _write(program: str, call: str, key: str, packed: list[str], name: str, *, directory: str = "") -> str:
    if len(program) + len(call) > 200 or not (program + call).isprintable():
        return "put the command into a script in the repository, and name that in `binary`"
    return "write:\n" + lines(program, call, key, packed, name, path=directory)


def _call(item: Node, path: list[str | int], packed: list[str]) -> Iterator[Fault]:
    node, binary, directory = _argument(item, path), item.text("binary"), item.text("path")
    if node is None or binary is None or " " in binary.value or not _may_need_shell(node.value):
        return
    import shlex

    from pakman.validation import shell_words

    words = shell_words.for_shell(node.value, binary.value)
    if not words:
        return
    keys = START[str(path[1])]
    text = f"`{path_text([*path, *keys])}`"
    message = f"no shell reads {text}: {shown(binary.value)} is given {quoted(words[0])} as it stands here"
    if words == ["&"] and node.value.endswith("&") and path[1] == "services":
        hint = "take the & out: what supervises a service keeps it in the background, and must see it run"
    else:
        given = directory.value if directory is not None else ""
        hint = "let a shell read it; " + _write(binary.value, node.value, str(path[1]), packed, "NAME", directory=given)
        hint += f"\nor, if it is meant so, put it in single quotes: {shown(shlex.quote(shlex.split(words[0])[0]))}"
    yield fault(node, [*path, *keys], "shell-in-call", message, hint)


def _ready(node: Node | None, path: list[str | int]) -> Iterator[Fault]:
    if node is None or not _may_need_shell(node.value):
        return
    import shlex

    from pakman.validation import shell_words

    program, _, call = node.value.partition(" ")
    words = shell_words.for_shell(node.value, "")
    if words:
        line = shell_words.line(program, call, program)
        hint = f"let a shell read it; write:\ncommand: {scalar(f'sh -c {shlex.quote(line)}')}"
        message = f"no shell reads `{path_text(path)}`: {shown(program)} is given {quoted(words[0])} as it stands here"
        yield fault(node, path, "shell-in-call", message, hint)

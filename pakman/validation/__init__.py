"""A manifest checked: every problem at once, each at its place."""

import datetime
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pakman import stack
from pakman.errors import UsageError
from pakman.problems import Problem
from pakman.stack import STACKS, Stack
from pakman.validation import checks, doubts, schema, yaml_reader
from pakman.validation.yaml_tree import Fault, Node, Unreadable

MAX_BYTES = 1024 * 1024


class Verdict(NamedTuple):
    """What there is to say about one file."""

    problems: tuple[Problem, ...]
    """All of them, sorted by place."""
    source: str
    """The file's text."""
    data: dict[str, Any]
    """The manifest as plain YAML data; to be trusted only where it is valid."""
    root: Node | None = None
    """The same as a tree of values that know their places; None where the text is no YAML."""

    @property
    def valid(self) -> bool:
        """Whether nothing worse than warnings was found."""
        return all(problem.severity != "error" for problem in self.problems)


def validate(file: Path, *, repository: str | None, today: datetime.date, stacks: Sequence[Stack] = STACKS) -> Verdict:
    """Check a manifest; `repository` is the repository's name, where it is known, `stacks` are those it may name.

    Raises UsageError where the file cannot be read.
    """
    content = _content(file, today)
    source = content.removeprefix(BOM_UTF8).decode(errors="replace")
    try:
        root, faults = _tree(content)
    except Unreadable as unreadable:
        return Verdict(tuple(_problems(file, "error", [unreadable.fault])), source[:MAX_BYTES], {})
    rules = schema.load()
    if not schema.accepts(rules, root.value):
        from pakman.validation import explanations

        faults += explanations.explain(root, rules)
    # A check that stumbles over what has been reported already has nothing to add.
    known = {(fault.line, fault.column, fault.path) for fault in faults}
    faults += [fault for fault in checks.errors(root, stacks) if (fault.line, fault.column, fault.path) not in known]
    warnings = doubts.warnings(root, source.split("\n"), repository, today, stacks)
    problems = {*_problems(file, "error", faults), *_problems(file, "warning", warnings)}
    return Verdict(tuple(sorted(problems)), source, root.value, root)


def _problems(file: Path, severity: Literal["error", "warning"], faults: Iterable[Fault]) -> Iterable[Problem]:
    for line, column, path, code, message, hint in faults:
        yield Problem(str(file), line, column, path, severity, code, message, hint)


_FIRST = """\
stack: {stack}
dependencies:
  build: [nodejs, npm]
  runtime: [nodejs, curl]
build:
  command: npm ci
  destinations: ["*"]
run:
  services:
    - name: web
      path: /usr/bin
      binary: node
      start:
        call: server.js"""


def _content(file: Path, today: datetime.date) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"there is no manifest {file}", hint=_elsewhere(file) or _first(today)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no path"
        hint = "give the path of a file that can be read"
        raise UsageError(f"the manifest {file} cannot be read: {reason}", hint=hint) from error


def _first(today: datetime.date) -> str:
    hint = "run pakman in the folder that has the manifest, or give its path; for the first one, write into it:\n"
    return hint + _FIRST.format(stack=stack.to_begin_with(today).name)


def _elsewhere(file: Path) -> str:
    """Return what to do where there is a manifest by another name, or in a folder above; "" where there is none."""
    folder = file.absolute().parent
    try:
        for name in ("instellar.yml", "instellar.yaml"):
            if (folder / name).is_file():
                return f"there is {file.with_name(name)}: rename it, or give its path"
        above = next((each for each in folder.parents if (each / "instellar.yml").is_file()), None)
    except OSError:  # nobody may look there
        return ""
    return f"there is one in a folder above: run pakman in {above}" if above is not None else ""


def _tree(content: bytes) -> tuple[Node, list[Fault]]:
    """Return the tree of a file's content and its faults as YAML; raises Unreadable."""
    if len(content) > MAX_BYTES:
        raise _unreadable("too-large", "the manifest is larger than 1 MiB", "is this the right file?")
    text = _text(content)
    _refuse_control_characters(text)
    root, faults = yaml_reader.parse(text)
    if root is None or (root.value is None and not faults):
        hint = "write what is built, at least:\nbuild:\n  command: make\n  destinations:\n    - dist"
        raise _unreadable("empty", "the manifest says nothing", hint)
    if not root.is_mapping:
        found = "a list" if root.is_list else "one value"
        hint = "begin with keys such as `build:`, without indentation and `- `"
        fault = Fault(root.line, root.column, "", "not-a-mapping", f"a manifest has keys, and this is {found}", hint)
        raise Unreadable(fault)
    return root, faults


def _text(content: bytes) -> str:
    try:
        return content.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        at = len(content) - len(error.object) + error.start
        message = f"the manifest is not UTF-8: byte {at + 1} is 0x{content[at]:02x}"
        hint = "save it as UTF-8; editors offer that when saving"
        raise _unreadable("not-utf-8", message, hint, before) from None


def _refuse_control_characters(text: str) -> None:
    """Refuse what YAML does, and what it takes for the end of a line where editors do not."""
    offset = 0
    for line in text.split("\n"):
        if not line.isprintable():
            for column, character in enumerate(line.removesuffix("\r")):
                if character != "\t" and (character < " " or "\x7f" <= character <= "\x9f" or character in _UNSEEN):
                    message = f"an invisible control character is here: U+{ord(character):04X}"
                    raise _unreadable("control-character", message, "take it out", text[: offset + column])
        offset += len(line) + 1


_UNSEEN = "\u2028\u2029\ufeff\ufffe\uffff"
"""Two separators of lines and paragraphs, a byte order mark inside of the text, two that are no characters."""


def _unreadable(code: str, message: str, hint: str, before: str = "") -> Unreadable:
    return Unreadable(Fault(before.count("\n") + 1, len(before) - before.rfind("\n"), "", code, message, hint))

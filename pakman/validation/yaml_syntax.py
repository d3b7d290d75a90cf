"""What is wrong in a text that is not YAML, as a person would say it.

The parser says where it stopped and what it expected; what the writer did is read off the lines there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pakman.validation.yaml_tree import Fault, quoted, shown


class _Stop(NamedTuple):
    """Where the parser stopped (row and column from 0) and inside of what."""

    lines: list[str]
    row: int
    column: int
    problem: str
    inside: str
    """What it was reading then, e.g. `while parsing a block mapping`; the next two say where that began."""
    begin_row: int
    begin_column: int

    @property
    def line(self) -> str:
        return self.lines[self.row] if self.row < len(self.lines) else ""

    @property
    def begin(self) -> str:
        return self.lines[self.begin_row][self.begin_column :].strip() if self.begin_row < len(self.lines) else ""

    @property
    def indentation(self) -> int:
        return len(self.line) - len(self.line.lstrip())


class _Found(NamedTuple):
    row: int
    column: int
    message: str
    hint: str


def explain(error: Any, source: str, path: str) -> Fault:
    """Return the fault for the yaml.YAMLError raised on `source`; `path` is where in the tree it happened."""
    lines = source.split("\n")
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Fault(1, 1, path, "yaml-syntax", f"this is not YAML: {shown(str(error))}", "")
    begin = error.context_mark or mark
    stop = _Stop(lines, mark.line, mark.column, error.problem or "", error.context or "", begin.line, begin.column)
    found = next(
        (found for rule in _RULES if (found := rule(stop)) is not None),
        _Found(stop.row, stop.column, f"YAML cannot be read on from here: {shown(stop.problem)}", _COMPARE),
    )
    row, column = found.row, found.column
    while row > 0 and (row >= len(lines) or not lines[row].strip()):
        # The parser stopped at the end of the text, or in an empty line: show the last line that says something.
        row -= 1
        column = len(lines[row].rstrip())
    return Fault(row + 1, column + 1, path, "yaml-syntax", found.message, found.hint)


def _tab(stop: _Stop) -> _Found | None:
    indentation = stop.line[: stop.indentation]
    if "\t" not in indentation or not ("tab" in stop.problem or "start any token" in stop.problem):
        return None
    message = "a tab is used for indentation, and YAML takes only spaces"
    return _Found(stop.row, indentation.index("\t"), message, "indent with spaces; editors have a setting for it")


def _first_character(stop: _Stop) -> _Found | None:
    if "start any token" not in stop.problem:
        return None
    value = stop.line[stop.column :].strip()
    if not value or stop.line[stop.column] == "\t":
        return _Found(stop.row, stop.column, "a tab stands where YAML takes only spaces", "write a space instead")
    message = f"an unquoted value cannot begin with `{shown(value[0])}`"
    return _Found(stop.row, stop.column, message, f"put the whole value in quotes: {quoted(value)}")


def _second_colon(stop: _Stop) -> _Found | None:
    if "mapping values are not allowed" not in stop.problem:
        return None
    before = stop.line[: stop.column].strip().removeprefix("- ")
    key, colon, _ = before.partition(": ")
    if colon:
        value = stop.line.split(": ", 1)[1].strip()
        message = "there is a second `: ` in this line, and YAML takes a value to end before it"
        return _Found(stop.row, stop.column, message, f"put the value in quotes: {shown(key)}: {quoted(value)}")
    above = _line_above(stop.lines, stop.row)
    if above is None or stop.lines[above].rstrip().endswith((":", "-")):
        return _Found(stop.row, stop.column, "a `: ` stands where no key can be", "put the value in quotes")
    text = stop.lines[above].strip()
    if ": " in text:
        message = f"this line is indented deeper than line {above + 1}, which has its value already"
        hint = "give it exactly the indentation of the keys that it stands beside"
        return _Found(stop.row, stop.indentation, message, hint)
    return _Found(above, stop.lines[above].index(text), *_neither(text))


def _no_colon(stop: _Stop) -> _Found | None:
    if "could not find expected ':'" not in stop.problem:
        return None
    return _Found(stop.begin_row, stop.begin_column, *_neither(stop.begin))


def _neither(text: str) -> tuple[str, str]:
    message = f"`{shown(text)}` is neither `key: value` nor `- item`"
    return message, "write a colon and a space between key and value, and `- ` before the item of a list"


def _not_closed(stop: _Stop) -> _Found | None:
    if "quot" in stop.inside and "scalar" in stop.inside:
        if "escape" in stop.problem:
            message = "a backslash begins an escape between double quotes, and this is none"
            return _Found(stop.row, stop.column, message, "use single quotes: there a backslash is a backslash")
        quote = stop.begin[:1]
        hint = f"write {quote} where the text ends"
        return _Found(
            stop.begin_row, stop.begin_column, f"this text is never closed: its second {quote} is missing", hint
        )
    if "flow" not in stop.inside:
        return None
    closing = "]" if "sequence" in stop.inside else "}"
    message = (
        f"what begins here is not closed with `{closing}`: YAML gave up in line {min(stop.row + 1, len(stop.lines))}"
    )
    hint = f"write `,` between its parts and `{closing}` at its end; a text with one of ,:[]{{}} in it needs quotes"
    return _Found(stop.begin_row, stop.begin_column, message, hint)


def _sign(stop: _Stop) -> _Found | None:
    if not any(word in stop.inside for word in ("alias", "anchor", "tag", "directive")) or not stop.begin:
        return None
    message = f"an unquoted `{shown(stop.begin[0])}` has a meaning of its own in YAML, and none here"
    return _Found(stop.begin_row, stop.begin_column, message, f"put the value in quotes: {quoted(stop.begin)}")


def _item_behind_key(stop: _Stop) -> _Found | None:
    if "block sequence entries are not allowed" not in stop.problem:
        return None
    item = stop.line[stop.column :].strip()
    message = "a list's item cannot stand in the line of its key"
    return _Found(stop.row, stop.column, message, f"write it in the next line, indented: {shown(item)}")


def _block_text(stop: _Stop) -> _Found | None:
    if "block scalar" not in stop.inside:
        return None
    message = "a text behind `|` or `>` is not written as YAML takes it"
    hint = "end the line behind `|`, and write the text in the lines below, indented with spaces"
    return _Found(stop.row, stop.column, message, hint)


def _list_or_mapping(stop: _Stop) -> _Found | None:
    if "block mapping" not in stop.inside and "block collection" not in stop.inside:
        return None
    here = stop.line[stop.column :].strip()
    if "collection" in stop.inside:
        message = f"the list that begins in line {stop.begin_row + 1} goes on here with what is no `- item`"
        hint = "begin it with `- `, or give it the indentation of the key that it stands beside"
    elif here == "-" or here.startswith("- "):
        return _item_among_keys(stop)
    elif stop.line[: stop.column].strip():
        message = f"`{shown(here)}` does not belong to the value before it"
        hint = "put the whole value in one pair of quotes, or in lines of its own behind `|`"
    else:
        message = "this line's indentation is that of no key above it"
        hint = "give it exactly the indentation of the keys that it stands beside"
    return _Found(stop.row, stop.column, message, hint)


def _item_among_keys(stop: _Stop) -> _Found:
    """A `- item` among the keys of a mapping: the list's own key is missing, or the item is too far to the left."""
    owner = _owner(stop)
    message = f"a list item begins here, among the keys of {f'`{owner}`' if owner else 'a mapping'}"
    item = _item(stop)
    keys = [line.strip().removeprefix("- ").partition(":")[0] for line in item]
    if owner != "run" or "name" not in keys:
        hint = "write the list's own key in the line before it, and indent the item below that"
        return _Found(stop.row, stop.column, message, hint)
    missing = "services" if "start" in keys else "commands"
    margin = " " * stop.column
    sample = "\n".join(f"{margin}  {line[stop.column :]}" for line in item)
    hint = f"the line `{missing}:` is missing before it; write:\n{margin}{missing}:\n{sample}"
    return _Found(stop.row, stop.column, message, hint)


def _owner(stop: _Stop) -> str:
    """Return the key whose mapping the parser was in."""
    for line in reversed(stop.lines[: stop.begin_row]):
        text = line.strip()
        if text.endswith(":") and line.index(text) < stop.begin_column:
            return shown(text[:-1])
    return ""


def _item(stop: _Stop) -> list[str]:
    """Return the lines of the list item that begins where the parser stopped; a few will do."""
    item = [stop.line.rstrip()]
    for line in stop.lines[stop.row + 1 : stop.row + 6]:
        if not line.strip() or len(line) - len(line.lstrip()) <= stop.column:
            break
        item.append(line.rstrip())
    return item


def _line_above(lines: list[str], row: int) -> int | None:
    """Return the last line before this one that says something."""
    said = (number for number in range(min(row, len(lines)) - 1, -1, -1) if lines[number].split("#")[0].strip())
    return next(said, None)


_COMPARE = "compare indentation, quotes and brackets with those of the lines above"
_RULES = (
    _tab,
    _first_character,
    _second_colon,
    _no_colon,
    _not_closed,
    _sign,
    _item_behind_key,
    _block_text,
    _list_or_mapping,
)

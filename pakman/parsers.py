"""argparse's parsers as this program needs them: errors in its style, unset inputs, help that takes no time."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn, TypeAlias


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence in the style of the rest of the program."""

    def error(self, message: str) -> NoReturn:
        """Raise it as a UsageError."""
        from pakman.errors import UsageError

        raise UsageError(message, hint=f"see `{self.prog} --help`")


class CommandParser(Parser):
    """The parser of one command: a flag or an argument that is empty, as a workflow's unset inputs are, is absent."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is not empty; what is not known here, no parser above knows either, and its help says less."""
        found, unknown = super().parse_known_args(self._without_empty(args), namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _without_empty(self, args: Iterable[str]) -> list[str]:
        if self._subparsers is not None:
            return list(args)  # what is empty there, the command below knows
        flags = {flag for flag, action in self._option_string_actions.items() if action.nargs != 0}
        found: list[str] = []
        for word in args:
            if word == "" and found and found[-1] in flags:
                found.pop()
            elif word != "" and not (word.endswith("=") and word[:-1] in flags):
                found.append(word)
        return found


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as it was written, for 80 columns: asking the terminal how wide it is imports four modules each time."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80)


Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
"""What `add_subparsers` returns."""


def add_command(commands: Commands, name: str, summary: str, text: str, epilog: str = "") -> CommandParser:
    """Add a command: a summary for the list of all, a text and an epilog for its own --help."""
    return commands.add_parser(
        name,
        help=summary,
        description=text,
        epilog=epilog,
        formatter_class=Help,
        allow_abbrev=False,
    )

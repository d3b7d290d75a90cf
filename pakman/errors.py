"""Everything that ends a run with a sentence, and the exit code it ends with.

An error says what happened, where, and (in `hint`) what to do. It is raised once, with `from` where another exception
caused it, and printed once, by `pakman.cli`. Nothing here may hold a secret.
"""

from __future__ import annotations

from typing import ClassVar

_LONGEST = 500
"""Characters."""


class PakmanError(Exception):
    """A failure that the user can do something about: one sentence, a hint, an exit code."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PakmanError):
    """The command line, or something it names, cannot be used as it was given, and no other of these is about that."""

    exit_code = 2


class ManifestError(PakmanError):
    """The manifest has problems; they have been reported one by one where they are known."""

    exit_code = 3


class BuildError(PakmanError):
    """The package could not be built, or not be written to where it should be."""

    exit_code = 4


class SigningError(PakmanError):
    """The signing key (its file, too, where it cannot be read), or a signature, is not what it should be."""

    exit_code = 5


class BucketError(PakmanError):
    """The bucket did not take, or did not give, what it should."""

    exit_code = 6


class DeploymentError(PakmanError):
    """The deployment API refused or did not answer."""

    exit_code = 7


class PackageTestError(PakmanError):
    """A package did not install, run, upgrade or go away as it should."""

    exit_code = 8


def one_line(said: object) -> str:
    """Return what somebody else has said as part of a sentence: not long, with nothing in it that a terminal obeys."""
    line = " ".join(str(said).split(maxsplit=_LONGEST))
    short = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
    return "".join(character if character.isprintable() else "?" for character in short)

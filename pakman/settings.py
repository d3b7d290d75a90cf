"""The user's settings: `.pakman.toml` beside the manifest, or above it in the same repository.

It says where Alpine's packages and images come from: mirrors and registries for all stacks, images and repositories
for one, stacks of one's own.
"""

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pakman import stack
from pakman.errors import UsageError
from pakman.stack import Stack

FILE = ".pakman.toml"
_MOST = 64 << 10
"""Bytes that such a file may have."""


class StackSettings(NamedTuple):
    """What the file says about one stack; what is empty is not said."""

    build_images: tuple[str, ...] = ()
    run_images: tuple[str, ...] = ()
    repositories: tuple[tuple[str, ...], ...] = ()


class Settings(NamedTuple):
    """What the file says, checked; nothing where there is none.

    A NamedTuple without postponed annotations: dataclasses imports inspect, and start-up time is a promise.
    """

    apk_mirrors: tuple[str, ...] = ()
    """URLs, without a slash at their end, below which are the branches: /v3.20/main."""
    image_registries: tuple[str, ...] = ()
    """Registries, with a path where they have one, below which is the image alpine."""
    by_stack: Mapping[str, StackSettings] = {}
    """By the whole name of the stack."""
    stacks: tuple[Stack, ...] = stack.STACKS
    """All that are known: Alpine's, and then the user's own."""


def find_file(directory: Path) -> Path | None:
    """Return the settings that hold for a manifest in this directory: the nearest, no further up than git's top."""
    place = directory.absolute()
    above = [place, *place.parents]
    # Where there is no repository, what is above is none of ours.
    top = next((number for number, each in enumerate(above) if os.path.exists(each / ".git")), 0)  # noqa: PTH110
    return next((each / FILE for each in above[: top + 1] if os.path.lexists(each / FILE)), None)


def read(directory: Path) -> Settings:
    """Read the settings that hold for a manifest in this directory; raises UsageError saying what is wrong, where."""
    file = find_file(directory)
    if file is None:
        return Settings()
    from pakman import settings_file

    return settings_file.parse(_text(file), file)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST + 1)
        if len(content) <= _MOST:
            return content.decode()
        reason = "it is larger than 64 KiB"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except OSError as error:
        reason = error.strerror or str(error)
    raise UsageError(f"the settings {file} cannot be read: {reason}", hint="the README says what stands in them")

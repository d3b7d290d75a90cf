"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pakman.errors import BuildError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` once the block is left without an exception; else nothing remains.

    Raises BuildError where it cannot be written.
    """
    with writing(path):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                os.fchmod(descriptor, 0o644)
            Path(temporary).rename(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about writing `path` into a BuildError."""
    try:
        yield
    except OSError as error:
        raise BuildError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="make room on the disk, or choose another --output directory that may be written to",
        ) from error

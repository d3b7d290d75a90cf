"""A package file on disk: what the rest of the program needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Package:
    """One .apk file: `version` is `pkgver-rPKGREL`; `size` is the file's in bytes, `sha256` its digest in hex."""

    name: str
    version: str
    arch: str
    path: Path
    size: int
    sha256: str

"""A problem in a manifest: what `pakman validate` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, or doubtful, at one place; these fields, in this order, are the json format."""

    file: str
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1, in characters."""
    path: str
    """Where in the manifest, e.g. `run.services[0].name`; empty for the whole file."""
    severity: Literal["error", "warning"]
    code: str
    """Stable, kebab-case, e.g. `unknown-key`."""
    message: str
    """One sentence."""
    hint: str
    """What to do; may be empty."""

"""The project: whose repository is built, at which commit, as which version."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Project:
    """Owner and name as GitHub spells them, the commit, its time (seconds since 1970, UTC), and the package's version."""

    owner: str
    name: str
    slug: str
    """`name` in the grammar of apk's package names: lower case, hyphens."""
    commit: str | None
    """The full SHA; None outside git and GitHub."""
    commit_time: int
    version: str
    """pkgver in apk's grammar, without the release."""
    release: int
    """pkgrel."""
    version_source: str
    """Where the version is from, for a log line: `tag v1.2.3`, `--package-version`, `no tag`."""

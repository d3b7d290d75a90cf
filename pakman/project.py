"""The project: whose repository is built, at which commit, as which version."""

from __future__ import annotations

from dataclasses import dataclass

from pakman import names


@dataclass(frozen=True, slots=True)
class Project:
    """Owner and name as GitHub spells them, the commit and its time, and the package's version."""

    owner: str
    name: str
    slug: str
    """`name` in the grammar of apk's package names: lower case, hyphens."""
    commit: str | None
    """The full SHA; None outside git and GitHub."""
    commit_time: int
    """When it was committed, in seconds since 1970, UTC; outside git SOURCE_DATE_EPOCH, else 0."""
    version: str
    """pkgver in apk's grammar, without the release."""
    release: int
    """pkgrel."""
    version_source: str
    """Where the version is from, for a log line: `tag v1.2.3`, `--package-version`, `no tag`."""


def slug(name: str) -> str:
    """Return a repository's name as a package's: Laravel_POS is laravel-pos, acme.dev is acme-dev; never empty."""
    return names.slug(name) or "app"

"""What the channels of a bucket have: each index's packages, newest first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pakman import version
from pakman.channels import Channel, Live
from pakman.progress import human_size


@dataclass(frozen=True, slots=True)
class Entry:
    """A package in a channel."""

    channel: str
    arch: str
    package: str
    version: str
    size: int
    """Bytes of the .apk."""
    newest: bool
    """Whether it is what `apk add` takes."""
    changed: float
    """When the index changed: seconds since 1970, by the server's clock."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self) | {"changed": iso(self.changed)}


def entries(channel: Channel) -> tuple[Entry, ...]:
    """Return what a channel has. Raises BucketError as `Channel.index` does."""
    return tuple(
        each
        for arch in channel.architectures()
        if (live := channel.index(arch)) is not None
        for each in _of(channel.name, arch, live)
    )


def _of(channel: str, arch: str, live: Live) -> list[Entry]:
    ordered = sorted(live.stanzas, key=lambda each: version.sort_key(each.version), reverse=True)
    ordered.sort(key=lambda each: each.name)
    found: list[Entry] = []
    for each in ordered:
        is_newest = not found or found[-1].package != each.name
        found.append(Entry(channel, arch, each.name, each.version, int(each.field("S")), is_newest, live.modified))
    return found


def table(entries: Iterable[Entry]) -> str:
    """Return a line for each entry below a line of headings; `*` marks the newest versions."""
    rows = [("", "channel", "arch", "package", "version", "size", "index changed")]
    rows += [
        ("*" if e.newest else "", e.channel, e.arch, e.package, e.version, human_size(e.size), utc(e.changed))
        for e in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def iso(seconds: float) -> str:
    """Return a time, in seconds since 1970, as programs read it: 2026-11-21T20:05:42Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def utc(seconds: float) -> str:
    """Return a time, in seconds since 1970, as people read it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))

"""The stacks: the Alpine versions that a package is built on and runs on."""

import datetime
from typing import NamedTuple


class Stack(NamedTuple):
    """One Alpine version.

    A NamedTuple without postponed annotations: dataclasses imports inspect, and start-up time is a promise.
    """

    name: str
    """As the manifest has it: `alpine/3.20`, `alpine/edge`."""
    version: str
    """As /etc/alpine-release begins: `3.20`; `edge`."""
    branch: str
    """As Alpine's mirrors call its directory: `v3.20`; `edge`."""
    end_of_life: datetime.date | None
    """The first day without support; None for edge, which has no end."""

    def supported(self, today: datetime.date) -> bool:
        """Say whether Alpine still mends what is found in it."""
        return self.end_of_life is None or today < self.end_of_life


# https://alpinelinux.org/releases/: a branch is supported for about two years.
_END_OF_LIFE = {
    "3.14": "2023-05-01",
    "3.15": "2023-11-01",
    "3.16": "2024-05-23",
    "3.17": "2024-11-22",
    "3.18": "2025-05-09",
    "3.19": "2025-11-01",
    "3.20": "2026-04-01",
    "3.21": "2026-11-01",
    "3.22": "2027-05-01",
    "3.23": "2027-11-01",
    "3.24": "2028-05-01",
}

STACKS = (
    *(
        Stack(f"alpine/{version}", version, f"v{version}", datetime.date.fromisoformat(end))
        for version, end in _END_OF_LIFE.items()
    ),
    Stack("alpine/edge", "edge", "edge", None),
)
"""All that pakman knows, oldest first, edge last."""


def find(text: str) -> Stack | None:
    """Return the stack that `alpine/3.20`, `3.20` or `v3.20` names, None if there is none."""
    version = text.removeprefix("alpine/")
    return next((stack for stack in STACKS if version in (stack.version, stack.branch)), None)


def supported(today: datetime.date) -> tuple[Stack, ...]:
    """Return the releases (not edge) that Alpine supports on this day, oldest first."""
    return tuple(stack for stack in STACKS if stack.end_of_life is not None and stack.supported(today))


def newest_supported(today: datetime.date) -> Stack:
    """Return the stack for a manifest that names none; the newest known one, once all of them have ended."""
    releases = tuple(stack for stack in STACKS if stack.end_of_life is not None)
    return (supported(today) or releases)[-1]

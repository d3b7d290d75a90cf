"""The stacks: the Alpine versions that a package is built on and runs on."""

import datetime
import re
from collections.abc import Iterable, Sequence
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
    build_images: tuple[str, ...]
    """Whole references, each with its registry, of the images to build in; the first that can be had is taken."""
    run_images: tuple[str, ...]
    """The same for the images that a package is installed in when it is tested."""
    repositories: tuple[tuple[str, ...], ...]
    """Each a whole set of lines for /etc/apk/repositories; the first that answers is taken. An empty one stands for
    the lines that the build root has by itself."""

    def supported(self, today: datetime.date) -> bool:
        """Say whether Alpine still mends what is found in it."""
        return self.end_of_life is None or today < self.end_of_life


# Whoever carries Docker's official images, Docker itself first: hub.docker.com/_/alpine,
# gallery.ecr.aws/docker/library/alpine, cloud.google.com/artifact-registry/docs/pull-cached-dockerhub-images.
IMAGE_REGISTRIES = ("docker.io/library", "public.ecr.aws/docker/library", "mirror.gcr.io/library")

# https://mirrors.alpinelinux.org: those that speak HTTPS and keep old branches, the one that Alpine sets up first.
APK_MIRRORS = (
    "https://dl-cdn.alpinelinux.org/alpine",
    "https://mirrors.edge.kernel.org/alpine",
    "https://ftp.halifax.rwth-aachen.de/alpine",
)

ROOTS_OWN: tuple[str, ...] = ()
"""In `repositories`: the lines that the build root has by itself."""


def images(version: str, registries: Iterable[str]) -> tuple[str, ...]:
    """Return the references of Alpine's official image of one version in these registries."""
    return tuple(f"{registry}/alpine:{version}" for registry in registries)


def repositories(branch: str, mirrors: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return one set of repositories per mirror: what is in a release, `main` and `community`."""
    return tuple((f"{mirror}/{branch}/main", f"{mirror}/{branch}/community") for mirror in mirrors)


def _alpine(version: str, branch: str, end_of_life: datetime.date | None) -> Stack:
    found = images(version, IMAGE_REGISTRIES)
    lines = (ROOTS_OWN, *repositories(branch, APK_MIRRORS))
    return Stack(f"alpine/{version}", version, branch, end_of_life, found, found, lines)


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
    *(_alpine(version, f"v{version}", datetime.date.fromisoformat(end)) for version, end in _END_OF_LIFE.items()),
    _alpine("edge", "edge", None),
)
"""All that pakman knows, oldest first, edge last."""


def find(text: str, known: Sequence[Stack] = STACKS) -> Stack | None:
    """Return the stack that `alpine/3.20`, `3.20`, `v3.20` or a whole name names, None if there is none."""
    version = text.removeprefix("alpine/")
    # Alpine's come first: a user's own is found by its name alone.
    return next((stack for stack in known if text == stack.name or version in (stack.version, stack.branch)), None)


def known_names(known: Sequence[Stack] = STACKS) -> str:
    """Return the stacks' names for a sentence."""
    names = [f"{STACKS[0].name} to {STACKS[-2].name}", *(stack.name for stack in known[len(STACKS) - 1 :])]
    return f"{', '.join(names[:-1])}, and {names[-1]}"


def hint(text: str, known: Sequence[Stack] = STACKS) -> str:
    """Return what to write in place of a text that names no stack: `alpine:3.23`, `3.23.6` or `acme/bass`."""
    found = re.fullmatch(r"(?:alpine[ :/-]?)?v?([0-9]+\.[0-9]+|edge)(?:\.[0-9]+)?", text, re.IGNORECASE)
    nearest = find(found[1].lower()) if found is not None else None
    meant = f"did you mean {nearest.name}? " if nearest is not None else ""
    return f"{meant}pakman knows {known_names(known)}"


def supported(today: datetime.date) -> tuple[Stack, ...]:
    """Return the releases (not edge) that Alpine supports on this day, oldest first."""
    return tuple(stack for stack in STACKS if stack.end_of_life is not None and stack.supported(today))


EVERYWHERE = "alpine/3.23"
"""What the sandbox's own root is: a build for it needs neither an engine nor a minirootfs."""


def to_begin_with(today: datetime.date) -> Stack:
    """Return the stack for a first manifest: one that builds on any machine, as long as Alpine supports it."""
    return next((each for each in supported(today) if each.name == EVERYWHERE), newest_supported(today))


def newest_supported(today: datetime.date) -> Stack:
    """Return the stack for a manifest that names none; the newest known one, once all of them have ended."""
    releases = tuple(stack for stack in STACKS if stack.end_of_life is not None)
    return (supported(today) or releases)[-1]

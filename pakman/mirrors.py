"""Where a stack's images and repositories come from: all of them, in the order they are tried, and who named each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from pakman import stack
from pakman.settings import FILE, Settings, StackSettings
from pakman.stack import Stack

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One of several things that serve alike: an image's reference, or a whole set of repositories."""

    value: T
    named_by: str
    """A flag, a key in the settings, or pakman itself."""
    is_near: bool = False
    """Whether it comes first among its like because the bucket is with the same provider."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A stack, and what there is to choose from, in order."""

    stack: Stack
    """With its images and repositories in this order."""
    build_images: tuple[Choice[str], ...]
    run_images: tuple[Choice[str], ...]
    repositories: tuple[Choice[tuple[str, ...]], ...]


def choices(
    wanted: Stack,
    settings: Settings,
    *,
    mirrors: Sequence[str] = (),
    build_images: Sequence[str] = (),
    target: str | None = None,
) -> Choices:
    """Put a stack's images and repositories in order.

    First what the flags name (`mirrors`, `build_images`), then the settings, then what pakman knows; what the settings
    say about this one stack is instead of the others. `target` is the host of the bucket's server, where there is a
    bucket: among those that the same one named, the one that is with its provider comes first.
    """
    own = settings.by_stack.get(wanted.name, StackSettings())
    place = f"of {wanted.name} in {FILE}"

    def images(known: Sequence[str], own: Sequence[str], key: str) -> Iterable[Choice[str]]:
        if own:
            return _named(own, f"{key} {place}", target, _registry)
        registries = stack.images(wanted.version, settings.image_registries)
        return [
            *_named(registries, f"image-registries in {FILE}", target, _registry),
            *_named(known, "pakman", target, _registry),
        ]

    flagged = _named(build_images, "--build-image", None, _registry)
    build = _once([*flagged, *images(wanted.build_images, own.build_images, "build-image")])
    run = _once(images(wanted.run_images, own.run_images, "run-image"))
    sets = _named(stack.repositories(wanted.branch, mirrors), "--mirror", None, _mirror)
    if own.repositories:
        sets += _named(own.repositories, f"repositories {place}", target, _mirror)
    else:
        named = stack.repositories(wanted.branch, settings.apk_mirrors)
        sets += _named(named, f"apk-mirrors in {FILE}", target, _mirror)
        sets += _named(wanted.repositories, "pakman", target, _mirror)
    repositories = _once(sets)
    ordered = wanted._replace(
        build_images=tuple(each.value for each in build),
        run_images=tuple(each.value for each in run),
        repositories=tuple(each.value for each in repositories),
    )
    return Choices(ordered, build, run, repositories)


def _named(values: Iterable[T], by: str, target: str | None, host: Callable[[T], str]) -> list[Choice[T]]:
    """Return what one place named: near ones first, else in its order."""
    found = [Choice(value, by, target is not None and provider(host(value)) == provider(target)) for value in values]
    return sorted(found, key=lambda each: not each.is_near)


def _once(found: Iterable[Choice[T]]) -> tuple[Choice[T], ...]:
    first: dict[T, Choice[T]] = {}
    for each in found:
        first.setdefault(each.value, each)
    return tuple(first.values())


def _registry(image: str) -> str:
    """Return the host of an image's registry; Docker takes its own for a reference without one."""
    head, slash, _ = image.partition("/")
    return head if slash and (re.search("[.:]", head) or head == "localhost") else "docker.io"


def _mirror(lines: Sequence[str]) -> str:
    """Return the host of a set of repositories; empty for what the build root has by itself."""
    return urlsplit(lines[0].rpartition(" ")[2]).netloc if lines else ""


_PROVIDERS = {"ecr.aws": "amazonaws.com", "gcr.io": "googleapis.com", "pkg.dev": "googleapis.com"}
"""Registries whose providers have their buckets below another domain."""
_SECOND_LEVELS = {"ac", "co", "com", "edu", "gov", "ne", "net", "or", "org"}
"""What stands before a country's domain as if it were a part of it: co.uk, com.br."""


def provider(host: str) -> str:
    """Return by what one knows the servers of one provider: the domain that they are in; an address is itself."""
    name = host.lower().rpartition("@")[2]
    name = name if name.endswith("]") else re.sub(":[0-9]*$", "", name)
    if re.fullmatch(r"[0-9.]+|\[.*\]", name):
        return name
    labels = name.split(".")
    count = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS else 2
    domain = ".".join(labels[-count:])
    return _PROVIDERS.get(domain, domain)


def bucket_host(endpoint_url: str | None) -> str:
    """Return the host of a bucket's server; AWS has those without one."""
    if endpoint_url is None:
        return "s3.amazonaws.com"
    return urlsplit(endpoint_url if "://" in endpoint_url else f"//{endpoint_url}").netloc

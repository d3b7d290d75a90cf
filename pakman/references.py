"""What an image, a registry, a mirror and a line of /etc/apk/repositories look like, and what is wrong with others."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
# github.com/distribution/reference: domain, path, tag, digest.
_IMAGE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
_REGISTRY = re.compile(rf"({_HOST})((?:/{_PART})*)/?")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~+/-]*)?")
_TAG = re.compile(r"@[A-Za-z0-9._-]+ +")

Problem = tuple[str, str]
"""What a value is, to go on from `which`, and what to do about it."""


def image_problem(text: str) -> Problem | None:
    """Return what keeps a text from being the reference of an image."""
    if len(text) <= 255 and _IMAGE.fullmatch(text):
        return None
    return "is no image's reference", "write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, in lower case"


def registry_problem(text: str) -> Problem | None:
    """Return what keeps a text from being a registry that has Alpine's image."""
    match = _REGISTRY.fullmatch(text) if len(text) <= 200 else None
    if match is not None and (re.search("[.:]", match[1]) or match[1] == "localhost"):
        return None
    return "is no registry", "write what stands before /alpine:3.24 there: registry.example.com/library"


def mirror_problem(text: str) -> Problem | None:
    """Return what keeps a text from being the URL of a mirror of Alpine's packages."""
    problem = _url_problem(text)
    if problem is None and re.search(r"/(v[0-9.]+|edge)(/(main|community))?/*$", text):
        return "names one branch of Alpine", "write what stands before /v3.24/main there: https://mirror.example/alpine"
    return problem


def line_problem(text: str) -> Problem | None:
    """Return what keeps a text from being a line of /etc/apk/repositories that pakman takes."""
    tag = _TAG.match(text)
    return _url_problem(text[tag.end() :] if tag is not None else text)


def _url_problem(text: str) -> Problem | None:
    if "@" in text:
        return "has a password in it or a place for one", "name a server that asks for none: logs show its address"
    try:
        host = urlsplit(text).hostname if _URL.fullmatch(text) and urlsplit(text).port != 0 else None
    except ValueError:
        host = None
    if not host:
        return "is no URL", "write it as https://mirror.example.com/alpine"
    return None

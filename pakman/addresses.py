"""Addresses as they may be shown: without the passwords that may be in them."""

from __future__ import annotations

import re


def without_password(url: str) -> str:
    """Return an address as it may be shown."""
    return re.sub("//[^/]*@", "//…@", url)


def mistyped(text: str) -> str:
    """Return what was meant to be an address, and may be none, as it may be shown: less rather than more of it."""
    # Where a colon or a slash is missing, a password is in the path; and it may have slashes of its own.
    return re.split(r"[?#]", re.sub(r"^(.*?://)?.*@", r"\1…@", text))[0]

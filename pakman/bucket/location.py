"""Where a bucket is and how one names it: `s3://NAME[/PREFIX]`, the server's address, the keys of objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pakman import addresses
from pakman.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

_KEY_PART = re.compile(r"[A-Za-z0-9._~-]+")
"""What every server and every proxy leaves as it is in a URL; `+` is a space to some."""


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket's name and the prefix, without slashes at its ends, that all our keys have in it."""

    name: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}" if self.prefix else f"s3://{self.name}"

    def key(self, *parts: str) -> str:
        """Return the key of an object below the prefix; raises UsageError for a part that is not safe in a URL."""
        for part in parts:
            if not _KEY_PART.fullmatch(part) or part in (".", ".."):
                raise UsageError(
                    f"{part!r} cannot be part of an object's key",
                    hint="rename what is called so: only letters, digits and . _ ~ - travel safely in a URL",
                )
        return "/".join((self.prefix, *parts) if self.prefix else parts)


def parse(text: str, more: str = "") -> Location:
    """Read `s3://NAME[/PREFIX]`, with or without a slash at the end, and `more` of the prefix (--prefix).

    Raises UsageError saying what is wrong with it.
    """
    if not text.startswith("s3://"):
        raise UsageError(f"the bucket {text!r} does not begin with s3://", hint=_scheme_hint(text))
    name, _, prefix = text.removeprefix("s3://").partition("/")
    _check_name(name, text)
    parts = [
        *_prefix_parts(prefix, f"the bucket {text[:60]!r}"),
        *_prefix_parts(more.strip("/"), f"--prefix {more[:60]!r}"),
    ]
    joined = "/".join(parts)
    if len(joined) > 512:
        raise UsageError(
            f"the prefix in the bucket {text[:60]!r}… is longer than 512 characters",
            hint="a key has room for 1024 in all",
        )
    return Location(name, joined)


def _scheme_hint(text: str) -> str:
    if "://" in text:
        return "write s3://NAME or s3://NAME/PREFIX, and the server's address as --endpoint-url"
    return f"write s3://{text.lstrip('/')}" if text.strip("/") else "write s3://NAME or s3://NAME/PREFIX"


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and ".." not in name and not re.fullmatch(r"[0-9.]+", name)


def _check_name(name: str, text: str) -> None:
    if not name:
        raise UsageError(f"the bucket {text!r} has no name", hint="write s3://NAME or s3://NAME/PREFIX")
    if _is_name(name):
        return
    if ":" in name or "@" in name:
        problem = "holds more than a name"
        hint = "give the server's address as --endpoint-url, credentials in the environment"
    else:
        problem = "is not one"
        if "_" in name:
            problem = "has an underscore"
        if name.lower() != name:
            problem = "has upper-case letters"
        meant = name.lower().replace("_", "-")
        hint = "3 to 63 lower-case letters, digits, dots and hyphens; a letter or digit at both ends; not an IP address"
        if meant != name and _is_name(meant):
            hint = f"bucket names are of lower-case letters, digits and hyphens: is it {meant!r}?"
    raise UsageError(f"the bucket's name {name!r} {problem}", hint=hint)


def _prefix_parts(prefix: str, where: str) -> list[str]:
    *parts, last = prefix.split("/")
    if last:  # else there is no prefix, or it has a slash at its end
        parts.append(last)
    for part in parts:
        if not part:
            raise UsageError(f"{where} has an empty part between two slashes", hint="write each slash once")
        if part in (".", ".."):
            raise UsageError(f"{where} has {part!r} in its prefix", hint="a prefix is a name, not a path to walk")
        if not _KEY_PART.fullmatch(part):
            bad = next(character for character in part if not _KEY_PART.fullmatch(character))
            raise UsageError(
                f"{where} has {bad!r} in its prefix",
                hint="use letters, digits and . _ ~ - only: all else is changed by some server or proxy on the way",
            )
    return parts


def public_address(text: str) -> str:
    """Return --public-url as scheme://host[:port][/path]; raises UsageError for what a machine could not fetch from."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    is_plain = host is not None and parts.username is None and not parts.query and not parts.fragment
    if not is_plain or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", text):
        raise UsageError(
            f"--public-url is {addresses.mistyped(text)!r}, which is not an address that a machine can fetch from",
            hint="write it as https://cdn.example.com, or with a path: https://s3.example.com/my-bucket",
        )
    return text.rstrip("/")


def endpoint(text: str, bucket: str, *, by_host: bool = False) -> str:
    """Return a server's address as scheme://host[:port][/path], https where it has no scheme; raises UsageError.

    `by_host` says that the bucket's name goes before the host's.
    """
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or any(c.isspace() for c in url):
        raise UsageError(
            f"the endpoint {addresses.mistyped(text)!r} is not a server's address",
            hint="write it as https://s3.example.com or http://127.0.0.1:9000",
        )
    if parts.username is not None:
        raise UsageError(
            f"the endpoint {addresses.mistyped(text)!r} has more than a server's address in it",
            hint="credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if mark := next((each for each in url if each in "?#"), ""):
        raise UsageError(
            f"the endpoint {addresses.mistyped(text)!r} goes on with {mark!r}, which is no part of a server's address",
            hint=f"write {url.partition(mark)[0]}",
        )
    if not _HOST.fullmatch(host) and ":" not in host:
        raise UsageError(
            f"the endpoint {text!r} names the host {host!r}, which no client of S3 asks",
            hint="a host's name is of letters, digits, hyphens and dots: give it another one, or its IP address",
        )
    if host.startswith(f"{bucket}."):
        raise UsageError(
            f"the endpoint {text!r} already has the bucket's name in it",
            hint=f"write {parts.scheme}://{parts.netloc.split('.', 1)[1]}: the bucket is named in s3://{bucket}",
        )
    if not _PATH.fullmatch(parts.path):
        # One program would take them as they are, another would resolve or quote them: two requests, two places.
        raise UsageError(
            f"the endpoint {addresses.mistyped(text)!r} has the path {addresses.mistyped(parts.path)!r}, which not "
            "every program asks for as it is written",
            hint="write names of letters, digits and . _ ~ - one slash between two of them",
        )
    path, _, last = parts.path.rstrip("/").rpartition("/")
    if last == bucket:
        raise UsageError(
            f"the endpoint {text!r} already has the bucket's name at its end",
            hint=f"write {parts.scheme}://{parts.netloc}{path}: the bucket is named in s3://{bucket}",
        )
    if by_host and _is_ip_address(host):
        raise UsageError(
            f"the endpoint {text!r} is an IP address, and --addressing-style virtual puts the bucket's name before "
            "a host's",
            hint="leave --addressing-style out, or say path; or give the server's name in place of its address",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_ip_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_PATH = re.compile(rf"(/(?!\.{{1,2}}(/|$)){_KEY_PART.pattern})*/*")
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?=.{{1,255}}$){_LABEL}(?:\.{_LABEL})*\.?")
"""As botocore's is_valid_endpoint_url has it: what is none it does not ask, and raises a ValueError."""
_REGION = re.compile(_LABEL)


def region(text: str, source: str) -> str | None:
    """Return a region that `source` names; None for `auto`. Raises UsageError: it becomes part of a host's name."""
    if not _REGION.fullmatch(text):
        raise UsageError(f"{source} is {text!r}, which is no region", hint="write it as eu-west-1 or auto")
    return None if text == "auto" else text

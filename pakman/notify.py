"""Telling whoever waits for a release: its release.json by POST, signed with a secret that both know.

It is told at least once: what ends without an answer is sent again, and so is a release that is made again. Its body is
the same each time, and so is the number of the delivery. A redirect is never followed: what is signed is for one alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import uuid
from collections.abc import Callable
from urllib.parse import SplitResult, unquote, urlsplit

from pakman.api import Answer, Api, Patience, address
from pakman.errors import DeploymentError, UsageError

SECRET = "PAKMAN_NOTIFY_SECRET"  # noqa: S105  # its name
_SOURCE = "--notify-url"
_LONGEST_LINE = 200
"""Characters of an answer that fit into a sentence."""


class Hook:
    """An address that releases are told to, and the secret that they are signed with.

    A name and a password in the address become Basic authentication. No path, query or password is ever shown: they
    are what some receivers know a sender by. `on_wait` is told why one has to wait. Raises UsageError where the address
    or the secret cannot be one.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        clock: Callable[[], float],
        on_wait: Callable[[str], None] = lambda _why: None,
        patience: Patience = Patience(),  # noqa: B008  # frozen
    ) -> None:
        parts = _parts(url)
        server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._secret = _usable(secret)
        self._api = Api(
            address(server, _SOURCE, at_stake="release"),
            _SOURCE,
            role="receiver",
            later=_AGAIN,
            clock=clock,
            on_wait=on_wait,
            patience=patience,
        )
        self._path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self._headers = _authentication(parts)

    @property
    def server(self) -> str:
        """The address as far as it may be shown."""
        return self._api.address

    def __repr__(self) -> str:
        return f"Hook({self.server})"

    def tell(self, body: bytes) -> None:
        """Send a release.json; raises DeploymentError where the receiver does not take it."""
        headers = {
            **self._headers,
            "x-pakman-signature-256": signature(body, self._secret),
            "x-pakman-delivery": delivery(body),
        }
        answer = self._api.send("POST", self._path, body, headers)
        if not 200 <= answer.status < 300:
            raise self._refused(answer)

    def _refused(self, answer: Answer) -> DeploymentError:
        if not 400 <= answer.status < 500 or answer.status == 429:
            return self._api.refusal(answer, kept="signature")
        said = self._line(answer.body)
        hint = _HINTS.get(answer.status, "its log may say more")
        return self._api.error(
            f"does not take the release ({answer.status}){': ' if said else ''}{said}", hint=f"{hint}; {_AGAIN}"
        )

    def _line(self, body: bytes) -> str:
        """Return the first line of an answer that says anything; nothing where it knows too much."""
        text = body.decode("utf-8", "replace")
        lines = ("".join(filter(str.isprintable, line)).strip() for line in text.splitlines())
        line = next(filter(None, lines), "")[:_LONGEST_LINE]
        return "" if self._secret in text else line


_AGAIN = "the release is complete: run `pakman release` again to tell of it once more"
_NOT_IT = f"look at {_SOURCE}: is all of it there?"
_NOT_KNOWN = f"does the receiver know the same secret? look at {SECRET} (in a workflow: notify-secret)"
_HINTS = {401: _NOT_KNOWN, 403: _NOT_KNOWN, 404: _NOT_IT, 405: _NOT_IT, 410: _NOT_IT}


def signature(body: bytes, secret: str) -> str:
    """Return what X-Pakman-Signature-256 says of a body: `sha256=`, and the HMAC-SHA256 in hex."""
    return f"sha256={hmac.new(secret.encode(errors='surrogateescape'), body, hashlib.sha256).hexdigest()}"


def delivery(body: bytes) -> str:
    """Return what X-Pakman-Delivery calls a body: the same UUID whenever it is sent."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{hashlib.sha256(body).hexdigest()}"))


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    # Not what it is instead: where one forgot https://, a part of it may be a password.
    if not is_address or parts.scheme not in ("http", "https") or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise UsageError(
            f"{_SOURCE} is not an address that a release can be sent to",
            hint="write it as https://example.com/hooks/releases",
        )
    return parts


def _usable(secret: str) -> str:
    found = secret.strip()
    if not found:
        raise UsageError(
            f"{_SOURCE} is given, but no secret to sign with: a receiver would have to believe anybody",
            hint=f"set {SECRET} (in a workflow: notify-secret) to a long random text, and let the receiver know it",
        )
    return found


def _authentication(parts: SplitResult) -> dict[str, str]:
    if parts.username is None and parts.password is None:
        return {}
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

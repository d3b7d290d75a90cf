"""Asking a service over HTTP: time-outs, an answer's end in bytes and seconds, tries, no redirects."""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from pakman import addresses
from pakman.errors import DeploymentError, UsageError


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for a connection, for silence, for a whole answer, before the second try; how often one tries in all."""

    connect: float = 10
    silence: float = 30
    whole: float = 60
    pause: float = 0.5
    """Doubled each time; some random part of it is waited, or what the service asks for in Retry-After."""
    longest_pause: float = 30
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came to its end; `content` is what its JSON holds, None where it is none."""

    status: int
    content: Any
    body: bytes = b""
    location: str = ""
    retry_after: float = 0
    """Seconds that the server asks to be left alone."""


class _SilentError(Exception):
    """There was no answer, or none that came to its end; the text says how it ended."""


class _Session(requests.Session):
    """Goes nowhere else, and does not so much as look where that would be: it would read all that comes with it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        del resp


class Api:
    """A service at an address, `source` being the flag or the variable that names that.

    `on_wait` is told why one has to wait. `role` is what the service is to us, `later` what to do where it fails now.

    Raises UsageError for an address that cannot be one; each request raises DeploymentError.
    """

    def __init__(
        self,
        text: str,
        source: str,
        *,
        role: str,
        later: str,
        clock: Callable[[], float],
        on_wait: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self.address = address(text, source)
        self._source = source
        self._role = role
        self._later = later
        self._clock = clock
        self._on_wait = on_wait
        self._patience = patience
        self._session = _Session()
        # Else what ~/.netrc has for the host takes the place of our own header.
        self._session.auth = lambda request: request

    def error(self, what: str, *, hint: str) -> DeploymentError:
        """Return the error that says something of the service."""
        return DeploymentError(f"{self.address} {what}", hint=hint)

    @property
    def _is_it(self) -> str:
        return f"look at {self._source}: is it the {self._role}'s address?"

    def another(self) -> DeploymentError:
        """Return the error for an answer that no deployment service gives."""
        return self.error("answers, but it is not the deployment service", hint=self._is_it)

    def unexpected(self, what: str) -> DeploymentError:
        """Return the error for an answer that this service does not give."""
        return self.error(f"answers with {what}", hint=self._is_it)

    def ask(self, method: str, path: str, content: object, headers: Mapping[str, str]) -> Answer:
        """Return the answer to a request that may be repeated; `content` becomes JSON, None is nothing."""
        return self.send(method, path, None if content is None else _encoded(content), headers)

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Return the answer to a request that may be repeated, whose body, where it has one, is JSON.

        Where none comes to its end, or the server cannot do it just then (429, 5xx), it is asked again.
        """
        for attempt in range(1, self._patience.attempts + 1):
            is_last = attempt == self._patience.attempts
            asked = 0.0
            try:
                answer = self._once(method, path, body, headers)
            except _SilentError as error:
                if is_last:
                    raise self.error(f"cannot be reached: {error}", hint=self._later) from error
                why = str(error)
            else:
                if is_last or not _may_pass(answer.status):
                    return answer
                why, asked = f"it answers {answer.status}", answer.retry_after
            self._wait(attempt, why, asked)
        raise AssertionError("no attempt was made")

    def _wait(self, attempt: int, why: str, asked: float) -> None:
        seconds = self._patience.pause * 2 ** (attempt - 1)
        # Many jobs are refused at the same moment: they must not all come back at the same one.
        seconds *= secrets.SystemRandom().uniform(0.5, 1)
        seconds = min(max(seconds, asked), self._patience.longest_pause)
        self._on_wait(f"{self.address}: {why}; asked again in {seconds:.1f} s")
        time.sleep(seconds)

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        ended: SimpleQueue[Answer | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                ended.put(self._exchange(method, path, body, headers))
            except Exception as error:
                ended.put(error)

        # Of headers, of 100 Continue and of what follows the last chunk nobody below sees the end, or that there is
        # none. So that is waited for here, and a thread that goes on reading is left to itself.
        threading.Thread(target=ask, daemon=True).start()
        try:
            found = ended.get(timeout=self._patience.whole)
        except Empty:
            raise self._endless() from None
        if isinstance(found, Exception):
            raise found
        return found

    def _endless(self) -> _SilentError:
        return _SilentError(f"the answer does not come to an end within {self._patience.whole:g} seconds")

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        sent = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "pakman", **headers}
        if body is not None:
            sent["content-type"] = "application/json"
        end = self._clock() + self._patience.whole
        try:
            with self._session.request(
                method,
                f"{self.address}{path}",
                data=body,
                headers=sent,
                stream=True,
                allow_redirects=False,
                timeout=(self._patience.connect, self._patience.silence),
            ) as answer:
                said = bytearray()
                # Not iter_content: that waits until a piece is whole, however slowly it drips.
                while piece := answer.raw.read1(1 << 16, decode_content=False):
                    said += piece
                    if len(said) > _MOST:
                        raise self.unexpected(f"more than {_MOST >> 20} MiB")
                    if self._clock() > end:
                        raise self._endless()
                return Answer(
                    answer.status_code,
                    _decoded(bytes(said)),
                    bytes(said),
                    answer.headers.get("location", ""),
                    _retry_after(answer.headers),
                )
        except requests.exceptions.SSLError as error:
            raise self.error(
                "has no certificate that this machine trusts",
                hint="does it speak https? for a certificate of your own, name its CA's file in REQUESTS_CA_BUNDLE",
            ) from error
        except requests.ConnectTimeout as error:
            raise _SilentError(f"no connection within {self._patience.connect:g} seconds") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _SilentError(f"no answer within {self._patience.silence:g} seconds") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            if (reason := _no_name(error)) is not None:
                host = urlsplit(self.address).hostname
                if reason == socket.EAI_AGAIN:  # the name server did not answer
                    raise _SilentError(f"the name {host} cannot be looked up") from error
                raise self.error(
                    f"cannot be reached: there is no host {host}",
                    hint=f"{self._is_it} if it is, does this machine have a network?",
                ) from error
            raise _SilentError("the connection broke, or there is none") from error

    def refusal(self, answer: Answer, *, kept: str = "token") -> DeploymentError:
        """Return what to say of a status that means nothing particular; `kept` is what a redirect would like to get."""
        status = answer.status
        if 300 <= status < 400:
            return self.error(
                f"sends us elsewhere ({_host(answer.location)}), and no {kept} is taken there",
                hint=f"give the {self._role}'s own address as {self._source}",
            )
        if _may_pass(status):
            return self.error(f"failed, again and again ({status})", hint=self._later)
        return self.unexpected(f"{status}, which is none of its answers")


def _may_pass(status: int) -> bool:
    """Say whether a server may answer otherwise the next time."""
    return status == 429 or (status >= 500 and status not in _FOR_GOOD)


_FOR_GOOD = (501, 505)
"""Not Implemented, HTTP Version Not Supported: whoever says so is no such service."""


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After says; a date there is one of the server's own clock, which Date has."""
    said = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}", said):
        return int(said)
    with suppress(ValueError, TypeError, OverflowError):
        return (parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    return 0


def _no_name(error: Exception) -> int | None:
    """Return why the service's name has no address (EAI_*); None where that is not what went wrong."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    # A proxy's name is not the service's.
    if isinstance(error, requests.exceptions.ProxyError) or not isinstance(
        reason, urllib3.exceptions.NameResolutionError
    ):
        return None
    return reason.__cause__.errno if isinstance(reason.__cause__, socket.gaierror) else None


_MOST = 1 << 20
"""Bytes of an answer."""


def address(text: str, source: str, *, at_stake: str = "tokens") -> str:
    """Return what `source` names as https://host[:port][/path]; http is for this machine alone. Raises UsageError."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    is_plain = re.fullmatch(r"[!-~]+", text) and host and parts.scheme in ("http", "https")
    # Not by what urlsplit finds: of an empty query it finds none, and all that follows would become one.
    if not is_plain or parts.username is not None or {"?", "#"} & set(text):
        shown = addresses.mistyped(text)[:100]
        raise UsageError(f"{source} is {shown!r}, which is no address", hint="write it as https://example.com")
    if parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError(
            f"{source} is {text[:100]!r}: whoever is on the way would read the {at_stake}",
            hint=f"write it as https://{parts.netloc}",
        )
    return text.rstrip("/")


def _encoded(content: object) -> bytes:
    try:
        return json.dumps(content, allow_nan=False).encode()
    except ValueError as error:
        raise DeploymentError(
            "the manifest's kits, sizes, plans or page hold a number that JSON does not have",
            hint="write no .inf and no .nan there",
        ) from error


def _decoded(said: bytes) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        return None


def _host(text: str) -> str:
    try:
        host = urlsplit(text).hostname or ""
    except ValueError:
        host = ""
    return host if re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", host) else "it does not say where"

"""The deployment service (Instellar, OpsMaru): six calls, JSON over HTTPS.

Each call may be repeated: what one makes, it makes once, and where that is there already the service answers 200. So
what ends without an answer, and what the service could not do just then, is asked again. A redirect is never followed,
for tokens would go along. Source: what pakman's forerunner (v8.4.1) sends and takes for an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pakman import refusals
from pakman.api import Answer, Api, Patience
from pakman.bucket import location
from pakman.errors import DeploymentError, UsageError
from pakman.refusals import Refusal

ENDPOINT = "https://opsmaru.com"

Outcome = Literal["created", "exists"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the service knows the package by (`package`), and who publishes it (`auth`)."""

    package: str = field(repr=False)
    auth: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """The bucket that the service reads packages from, and what it takes to write to it."""

    bucket: str
    endpoint_url: str
    region: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the service has of a commit: its own number for it, and the key of the archive in its bucket."""

    id: str
    archive_path: str


class RefusedError(DeploymentError):
    """The service refuses values, each of which it names (`refusals`)."""

    def __init__(self, message: str, found: tuple[Refusal, ...], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.refusals = found


class Instellar:
    """The service at an address, which a flag or a variable names (`source`).

    `on_secret` is told each secret that it hands out, `on_wait` why one has to wait.
    Raises UsageError for an address or a token that cannot be one; each call raises DeploymentError.
    """

    def __init__(
        self,
        endpoint: str,
        tokens: Tokens,
        *,
        source: str = "--instellar-endpoint",
        clock: Callable[[], float],
        on_secret: Callable[[str], None] = lambda _secret: None,
        on_wait: Callable[[str], None] = lambda _why: None,
        patience: Patience = Patience(),  # noqa: B008  # frozen
    ) -> None:
        self._api = Api(endpoint, source, role="service", later=_LATER, clock=clock, on_wait=on_wait, patience=patience)
        self._tokens = tokens
        self._on_secret = on_secret
        self._token: str | None = None

    @property
    def endpoint(self) -> str:
        """Its address."""
        return self._api.address

    def __repr__(self) -> str:
        return f"Instellar({self.endpoint})"

    def deployment(self, sha: str) -> Deployment | None:
        """Return what is deployed of a commit; None where nothing is."""
        answer = self._ask("GET", f"/publish/deployments/{sha}")
        return None if answer.status == 404 else self._deployment(answer, 200)

    def storage(self) -> Storage:
        """Return where this package's files go."""
        answer = self._ask("GET", "/publish/storage")
        if answer.status == 404:
            raise self._api.error(
                "has no storage for this package",
                hint="is INSTELLAR_PACKAGE_TOKEN this package's? if so, set a storage up there, or give --bucket",
            )
        found = self._attributes(answer, 200)
        try:
            credential = found["credential"]
            host, port, scheme = _text(found["host"]), _port(found["port"]), _text(found["scheme"])
            server = f"{scheme.removesuffix('://')}://{host}"
            usual = {"https": 443, "http": 80}.get(scheme.removesuffix("://"))
            storage = Storage(
                bucket=location.parse(f"s3://{_text(found['bucket'])}").name,
                endpoint_url=location.endpoint(server if port == usual else f"{server}:{port}", found["bucket"]),
                region=location.region(_text(found["region"]), "region") or "auto",
                access_key_id=_text(credential["access_key_id"]),
                secret_access_key=_text(credential["secret_access_key"]),
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise self._api.unexpected("a storage that is none") from error
        self._on_secret(storage.secret_access_key)
        return storage

    def create_deployment(
        self, *, ref: str, sha: str, archive_path: str, stack: str | None
    ) -> tuple[Deployment, Outcome]:
        """Tell the service of a commit, at a ref (`refs/heads/main`), and of its packages' archive in the bucket."""
        asked = {"ref": ref, "hash": sha, "archive_path": archive_path} | ({"stack": stack} if stack else {})
        answer = self._ask("POST", "/publish/deployments", {"deployment": asked})
        return self._deployment(answer, 200, 201, archive_path=archive_path), _outcome(answer)

    def create_configuration(self, deployment_id: str, payload: Mapping[str, Any]) -> Outcome:
        """Tell the service how a deployment is run (kits, sizes, plans, page); RefusedError names what it refuses."""
        path = f"/publish/deployments/{deployment_id}/configurations"
        answer = self._ask("POST", path, {"configuration": {"payload": payload}})
        if answer.status not in (200, 201):
            raise self._refused(answer)
        return _outcome(answer)

    def _authenticated(self) -> str:
        answer = self._api.ask("POST", "/publish/automation/callback", {"auth_token": self._tokens.auth}, {})
        if answer.status == 404 and not isinstance(answer.content, dict):
            raise self._api.another()
        if answer.status in (401, 403, 404):
            raise self._api.error(
                "does not know the auth token",
                hint="look at INSTELLAR_AUTH_TOKEN (in a workflow: instellar-auth-token): is it all there, and of this "
                "service?",
            )
        if answer.status != 201:
            raise self._refused(answer)
        try:
            token = _text(answer.content["data"]["token"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unexpected("no token") from error
        self._on_secret(token)
        self._token = token
        return token

    def _ask(self, method: str, path: str, content: object = None) -> Answer:
        """Ask as who we are; a token that has become too old (a build may take long) is made anew once."""
        is_new = self._token is None
        answer = self._api.ask(method, path, content, self._headers(self._token or self._authenticated()))
        if answer.status == 401 and not is_new:
            answer = self._api.ask(method, path, content, self._headers(self._authenticated()))
        return answer

    def _headers(self, token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}", "x-instellar-package-token": self._tokens.package}

    def _deployment(self, answer: Answer, *statuses: int, archive_path: object = None) -> Deployment:
        found = self._attributes(answer, *statuses)
        try:
            return Deployment(_id(found["id"]), _path(found.get("archive_path", archive_path)))
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unexpected("a deployment that is none") from error

    def _attributes(self, answer: Answer, *statuses: int) -> dict[str, Any]:
        if answer.status not in statuses:
            raise self._refused(answer)
        try:
            found = answer.content["data"]["attributes"]
        except (KeyError, TypeError) as error:
            raise self._api.unexpected("something else than was asked for") from error
        if not isinstance(found, dict):
            raise self._api.unexpected("something else than was asked for")
        return found

    def _refused(self, answer: Answer) -> DeploymentError:
        """Return what to say of a status that is none of a call's own."""
        status = answer.status
        if status in (401, 403, 404):
            return self._api.error(
                f"refuses the tokens ({status})",
                hint="look at INSTELLAR_PACKAGE_TOKEN (in a workflow: instellar-package-token): is it of this package, "
                "and of this service?",
            )
        if status == 422:
            found = refusals.read(answer.content)
            said = "; ".join(str(each) for each in found[:_SHOWN]) or "it does not say which"
            return RefusedError(f"{self.endpoint} refuses values: {said}", found, hint="change them and deploy again")
        return self._api.refusal(answer)


_LATER = "run it again later: what has been shipped is kept, and nothing is deployed twice"
_SHOWN = 5
"""Refusals that fit into a sentence."""


def tokens(package: str, auth: str) -> Tokens | None:
    """Return the two tokens; None where there is neither. Raises UsageError where one is missing, or cannot be one."""
    given = {"INSTELLAR_PACKAGE_TOKEN": package.strip(), "INSTELLAR_AUTH_TOKEN": auth.strip()}
    if not any(given.values()):
        return None
    for name, token in given.items():
        if not token:
            other = next(each for each in given if each != name)
            raise UsageError(
                f"{other} is set, but {name} is not", hint="deploying needs both; a workflow's secret may be empty"
            )
        if not _WORD.fullmatch(token):
            raise UsageError(
                f"{name} has something in it that no token has", hint="is all of it there, and nothing else?"
            )
    return Tokens(*given.values())


_WORD = re.compile(r"[!-~]{1,8192}")
"""What can stand in a header."""


def _outcome(answer: Answer) -> Outcome:
    return "created" if answer.status == 201 else "exists"


def _text(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError("not a word")
    return value


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not 0 < int(value) < 65536:
        raise ValueError("not a port")
    return int(value)


def _id(value: object) -> str:
    # It becomes part of a path.
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, str))
        or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", f"{value}")
    ):
        raise ValueError("not an id")
    return str(value)


def _path(value: object) -> str:
    # It is printed, and becomes a step's output: nothing that a runner could take for a command.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._~/+=@-]{1,1024}", value):
        raise ValueError("not a key")
    return value

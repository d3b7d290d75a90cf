"""How one talks to an S3 server: address, region, credentials, time-outs; boto3's client."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from pakman.bucket.lane import BUSY, ELSEWHERE, TOO_MANY, Lane
from pakman.bucket.location import Location, endpoint, region
from pakman.bucket.waiting import Patience, why
from pakman.errors import UsageError

Addressing = Literal["auto", "path", "virtual"]


@dataclass(frozen=True, slots=True)
class Access:
    """All that it takes to reach a bucket. `endpoint` is None for AWS; what else is None or empty, boto3 finds out."""

    location: Location
    endpoint: str | None
    region: str | None
    addressing: Addressing
    ca_bundle: str | None
    concurrency: int
    patience: Patience
    credentials: Mapping[str, str | None] = field(repr=False)
    on_wait: Callable[[str], None] = field(repr=False)
    """Called with a sentence, from any thread, where something is asked again."""

    @property
    def by_path(self) -> bool:
        """Whether the bucket's name comes in the URL's path; else in its host."""
        # A name with dots in it is no host that a wildcard certificate covers.
        usual = "path" if self.endpoint or "." in self.location.name else "virtual"
        return (usual if self.addressing == "auto" else self.addressing) == "path"

    @property
    def place(self) -> str:
        """The bucket and its server, for error messages."""
        return f"{self.location} at {self.endpoint or 'AWS'}"


def access(
    location: Location,
    *,
    endpoint_url: str | None,
    region: str | None,
    env: Mapping[str, str],
    addressing: Addressing,
    concurrency: int,
    patience: Patience,
    on_wait: Callable[[str], None],
) -> Access:
    """Put together what the user said and what the usual AWS variables of `env` say; raises UsageError."""
    given = endpoint_url or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    return Access(
        location=location,
        endpoint=endpoint(given, location.name, by_host=addressing == "virtual") if given else None,
        region=_region(region, env),
        addressing=addressing,
        ca_bundle=_certificates(env.get("AWS_CA_BUNDLE", ""), "AWS_CA_BUNDLE"),
        concurrency=concurrency,
        patience=patience,
        credentials=_credentials(env),
        on_wait=on_wait,
    )


def _certificates(file: str, source: str) -> str | None:
    """Return the file of the certificates that `source` has one trust; None for an empty one. Raises UsageError."""
    import ssl

    if not file.strip():
        return None
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        # Of what is no certificate, OpenSSL's own words say nothing to anybody.
        reason = "holds no certificate" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise UsageError(
            f"{source} is {file!r}, which {reason}",
            hint="name the file, in PEM, with the certificate of the CA that the server's is from; "
            "for what public CAs have signed, name none",
        ) from error
    return file


def _region(given: str | None, env: Mapping[str, str]) -> str | None:
    """Return the region that was said; None where none was, or `auto`."""
    for source, said in (
        ("--region", given),
        ("AWS_REGION", env.get("AWS_REGION")),
        ("AWS_DEFAULT_REGION", env.get("AWS_DEFAULT_REGION")),
    ):
        if said:
            return region(said, source)
    return None


def _credentials(env: Mapping[str, str]) -> dict[str, str | None]:
    """Return boto3's parameters; empty where the variables are not set: boto3 then looks where it usually does."""
    # A secret that was pasted with its newline is a frequent accident, and no key has white space in it.
    key = env.get("AWS_ACCESS_KEY_ID", "").strip()
    secret = env.get("AWS_SECRET_ACCESS_KEY", "").strip()
    token = env.get("AWS_SESSION_TOKEN", "").strip()
    if not key and not secret:
        return {}
    if not key or not secret:
        there, missing = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
        if not key:
            there, missing = missing, there
        raise UsageError(f"{there} is set, but {missing} is not", hint="set both, or neither for boto3's other sources")
    for name, said in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", token)):
        if not said.isprintable():
            raise UsageError(
                f"{name} has a line break, or another control character, in it",
                hint="set it again, to all of its one line and nothing else",
            )
    return {
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
        "aws_session_token": token or None,
    }


class Connection:
    """boto3's client for one bucket, the bucket's address, and the quick way; many threads may use it."""

    def __init__(self, access: Access) -> None:
        # A fifth of a second: only who talks to a bucket waits for it.
        import boto3

        from pakman.bucket.credentials import Session

        profile = Session()
        if access.endpoint is None and (configured := _configured_endpoint(profile)):
            by_host = access.addressing == "virtual"
            access = replace(access, endpoint=endpoint(configured, access.location.name, by_host=by_host))
        if bundle := access.ca_bundle or _configured_certificates(profile):
            access = replace(access, ca_bundle=bundle)
        # The same for a role's server; True is for the public CAs, where a variable that is empty says nothing.
        if bundle or profile.get_config_variable("ca_bundle") is not None:
            profile.set_config_variable("ca_bundle", bundle or True)
        self.access = access
        self._was_answered = False
        # A role is taken before the bucket is asked anything.
        profile.set_default_client_config(self._patient(access.patience.first))
        profile.register("needs-retry.sts", self._after_each_for_a_role)
        session = boto3.Session(botocore_session=profile, **access.credentials)
        region = access.region or profile.get_config_variable("region")
        if region is None and access.endpoint is None:
            region = self._region_of_bucket(self._client(session, "us-east-1"))
        self.client = self._client(session, region or "us-east-1")
        self.conditional = True
        """Whether the server knows If-None-Match on PUT, as far as we know."""
        self.answers_md5 = True
        """Whether the ETag of what is stored is its MD5, as far as we know; not where the server encrypts."""
        self.base_url = self._base_url(str(self.client.meta.endpoint_url))
        self.lane = self._lane(session.get_credentials())

    def _patient(self, read: float, **more: Any) -> Any:
        from botocore.config import Config

        patience = self.access.patience
        return Config(
            connect_timeout=patience.connect,
            read_timeout=read,
            retries={"mode": "standard", "total_max_attempts": patience.attempts},
            **more,
        )

    def _client(self, session: Any, region: str) -> Any:
        client = session.client(
            "s3",
            endpoint_url=self.access.endpoint,
            region_name=region,
            verify=self.access.ca_bundle,
            config=self._patient(
                self.access.patience.read,
                max_pool_connections=self.access.concurrency * 2,
                signature_version="s3v4",
                # The default since 1.36 sends checksums that R2, MinIO, B2 and GCS refuse.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={
                    "addressing_style": "path" if self.access.by_path else "virtual",
                    "us_east_1_regional_endpoint": "regional",
                },
            ),
        )
        client.meta.events.register("before-call.s3", self._before_each)
        client.meta.events.register("needs-retry.s3", partial(self._after_each, region))
        return client

    def _before_each(self, context: dict[str, Any], **_: object) -> None:
        if not self._was_answered:
            # An older botocore does not look there, and waits for as long as ever.
            context["read_timeout"] = self.access.patience.first

    def _after_each(
        self, region: str, response: Any, attempts: int, operation: Any, caught_exception: Any, **_: object
    ) -> float | None:
        """Return the seconds after which a request is to be tried again that boto3 would not; None for all others.

        What ends one that either of them tries again is said. R2 and GCS answer 429, under codes of their own, where
        one key is written more than once in a second. And where AWS has the bucket in another region than was said,
        boto3 would go there, but our URLs would not.
        """
        from botocore.exceptions import ClientError, IncompleteReadError

        is_last = attempts >= self.access.patience.attempts
        if response is None:
            if not is_last:
                self.say_why(caught_exception)
            return None
        self._was_answered = True
        answer, parsed = response
        if (
            self.access.endpoint is None
            and answer.status_code in ELSEWHERE
            and answer.headers.get("x-amz-bucket-region", region) != region
        ):
            raise ClientError(parsed, operation.name)
        if is_last and (expected := _cut_off(answer, operation)):
            raise IncompleteReadError(actual_bytes=len(answer.content), expected_bytes=expected)
        if answer.status_code not in BUSY or is_last:
            return None
        self.say(f"it answers {answer.status_code}")
        return random.uniform(0, 2.0 ** (attempts - 1)) if answer.status_code == TOO_MANY else None  # noqa: S311

    def _after_each_for_a_role(self, attempts: int, caught_exception: Any, **_: object) -> None:
        if caught_exception is None or attempts >= self.access.patience.attempts:
            return
        patience, url = self.access.patience, urlsplit(getattr(caught_exception, "kwargs", {}).get("endpoint_url", ""))
        if (reason := why(caught_exception, patience.first, patience.connect)) is not None:
            self.say(reason, f"{url.scheme}://{url.netloc}")

    def say(self, reason: str, server: str = "") -> None:
        """Say why something is asked again; the server is the bucket's where it is no other."""
        self.access.on_wait(f"{server or self.access.endpoint or 'AWS'}: {reason}; asked again")

    def say_why(self, error: Exception) -> None:
        """Say how a request has ended that is made again: with which of botocore's exceptions."""
        patience = self.access.patience
        reason = why(error, patience.read if self._was_answered else patience.first, patience.connect)
        if reason is not None:
            self.say(reason)

    def _region_of_bucket(self, client: Any) -> str | None:
        """Ask AWS, which says so in the headers of every answer, refusals included."""
        from botocore.exceptions import ClientError

        try:
            answer = client.head_bucket(Bucket=self.access.location.name)
        except ClientError as error:
            answer = error.response
        region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return None if region is None else str(region)

    def _base_url(self, server: str) -> str:
        name = self.access.location.name
        if self.access.by_path:
            return f"{server}/{name}"
        parts = urlsplit(server)
        return f"{parts.scheme}://{name}.{parts.netloc}{parts.path}"

    def _lane(self, credentials: Any) -> Lane | None:
        from botocore.utils import get_environ_proxies

        if credentials is None or get_environ_proxies(self.base_url):
            return None
        region, access = str(self.client.meta.region_name), self.access
        return Lane(self.base_url, region, credentials, access.ca_bundle, access.patience, self.say)


def _configured_certificates(profile: Any) -> str | None:
    """Return the file of certificates that a profile in ~/.aws/config names; boto3 would trust them, too."""
    name = profile.profile or "default"
    return _certificates(profile.get_scoped_config().get("ca_bundle", ""), f"ca_bundle of the profile {name!r}")


def _cut_off(answer: Any, operation: Any) -> int:
    """Return how many bytes should have come where fewer did; 0 where all did, and of what is no failure.

    botocore makes a 500 of what it cannot read, and does not look at the length itself.
    """
    said = str(answer.headers.get("content-length", ""))
    if answer.status_code != 500 or operation.http["method"] == "HEAD" or not said.isdecimal():
        return 0
    return int(said) if len(answer.content) < int(said) else 0


def _configured_endpoint(profile: Any) -> str | None:
    """Return the address that a profile in ~/.aws/config has for S3, or for everything; boto3 would go there, too."""
    found = profile.get_scoped_config()
    services = profile.full_config.get("services", {}).get(found.get("services"), {})
    address: str | None = services.get("s3", {}).get("endpoint_url") or found.get("endpoint_url")
    return address

"""How one talks to an S3 server: address, region, credentials, time-outs; boto3's client, and a quick way to store."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from queue import Empty, SimpleQueue
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pakman.bucket.location import Location, endpoint
from pakman.errors import UsageError

Addressing = Literal["auto", "path", "virtual"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a connection and for each answer, and how often a request is tried in all."""

    connect: float = 10
    read: float = 60
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class Access:
    """All that it takes to reach a bucket. `endpoint` is None for AWS; what else is None or empty, boto3 finds out."""

    location: Location
    endpoint: str | None
    region: str | None
    by_path: bool
    """Whether the bucket's name comes in the URL's path; else in its host."""
    ca_bundle: str | None
    concurrency: int
    patience: Patience
    credentials: Mapping[str, str | None] = field(repr=False)

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
) -> Access:
    """Put together what the user said and what the usual AWS variables of `env` say; raises UsageError."""
    given = endpoint_url or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    region = _region(region, env)
    # A name with dots in it is no host that a wildcard certificate covers.
    usual = "path" if given or "." in location.name else "virtual"
    return Access(
        location=location,
        endpoint=endpoint(given, location.name) if given else None,
        region=region,
        by_path=(usual if addressing == "auto" else addressing) == "path",
        ca_bundle=env.get("AWS_CA_BUNDLE"),
        concurrency=concurrency,
        patience=patience,
        credentials=_credentials(env),
    )


def _region(given: str | None, env: Mapping[str, str]) -> str | None:
    """Return the region that was said; None where none was, or `auto`."""
    for source, region in (
        ("--region", given),
        ("AWS_REGION", env.get("AWS_REGION")),
        ("AWS_DEFAULT_REGION", env.get("AWS_DEFAULT_REGION")),
    ):
        if region:
            # It becomes part of a host's name.
            if not re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", region):
                raise UsageError(f"{source} is {region!r}, which is no region", hint="write it as eu-west-1 or auto")
            return None if region == "auto" else region
    return None


def _credentials(env: Mapping[str, str]) -> dict[str, str | None]:
    """Return boto3's parameters; empty where the variables are not set: boto3 then looks where it usually does."""
    # A secret that was pasted with its newline is a frequent accident, and no key has white space in it.
    key = env.get("AWS_ACCESS_KEY_ID", "").strip()
    secret = env.get("AWS_SECRET_ACCESS_KEY", "").strip()
    if not key and not secret:
        return {}
    if not key or not secret:
        there, missing = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
        if not key:
            there, missing = missing, there
        raise UsageError(f"{there} is set, but {missing} is not", hint="set both, or neither for boto3's other sources")
    return {
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
        "aws_session_token": env.get("AWS_SESSION_TOKEN", "").strip() or None,
    }


class Connection:
    """boto3's client for one bucket, the bucket's address, and the quick way; many threads may use it."""

    def __init__(self, access: Access) -> None:
        # A fifth of a second: only who talks to a bucket waits for it.
        import boto3
        import botocore.session

        self._access = access
        profile = botocore.session.Session()
        session = boto3.Session(botocore_session=profile, **access.credentials)
        region = access.region or profile.get_config_variable("region")
        if region is None and access.endpoint is None:
            region = self._region_of_bucket(self._client(session, "us-east-1"))
        self.client = self._client(session, region or "us-east-1")
        self.conditional = True
        """Whether the server knows If-None-Match on PUT, as far as we know."""
        self.base_url = self._base_url(str(self.client.meta.endpoint_url))
        self.lane = self._lane(session.get_credentials(), access.ca_bundle or profile.get_config_variable("ca_bundle"))

    def _client(self, session: Any, region: str) -> Any:
        from botocore.config import Config

        patience = self._access.patience
        return session.client(
            "s3",
            endpoint_url=self._access.endpoint,
            region_name=region,
            verify=self._access.ca_bundle,
            config=Config(
                connect_timeout=patience.connect,
                read_timeout=patience.read,
                retries={"mode": "standard", "total_max_attempts": patience.attempts},
                max_pool_connections=self._access.concurrency * 2,
                signature_version="s3v4",
                # The default since 1.36 sends checksums that R2, MinIO, B2 and GCS refuse.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={
                    "addressing_style": "path" if self._access.by_path else "virtual",
                    "us_east_1_regional_endpoint": "regional",
                },
            ),
        )

    def _region_of_bucket(self, client: Any) -> str | None:
        """Ask AWS, which says so in the headers of every answer, refusals included."""
        from botocore.exceptions import ClientError

        try:
            answer = client.head_bucket(Bucket=self._access.location.name)
        except ClientError as error:
            answer = error.response
        region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return None if region is None else str(region)

    def _base_url(self, server: str) -> str:
        name = self._access.location.name
        if self._access.by_path:
            return f"{server}/{name}"
        parts = urlsplit(server)
        return f"{parts.scheme}://{name}.{parts.netloc}{parts.path}"

    def _lane(self, credentials: Any, ca_bundle: str | None) -> Lane | None:
        from botocore.utils import get_environ_proxies

        if credentials is None or get_environ_proxies(self.base_url):
            return None
        return Lane(self.base_url, str(self.client.meta.region_name), credentials, ca_bundle, self._access.patience)


class Lane:
    """A PUT without what boto3 does around it, which is four times the work of signing and sending it.

    For the first try only: whatever is not a plain success is asked again through boto3, which knows about the rest.
    """

    def __init__(self, base_url: str, region: str, credentials: Any, ca_bundle: str | None, patience: Patience) -> None:
        from botocore.config import Config
        from botocore.httpsession import get_cert_path

        parts = urlsplit(base_url)
        self._server = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path
        self._host, self._port = parts.hostname or "", parts.port
        self._region = region
        self._credentials = credentials
        self._patience = patience
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=ca_bundle or get_cert_path(verify=True))
        self._signing = {sign: Config(s3={"payload_signing_enabled": sign}) for sign in (True, False)}
        self._idle: SimpleQueue[HTTPConnection] = SimpleQueue()

    def put(self, key: str, body: bytes, headers: Mapping[str, str], *, query: str = "", sign_body: bool) -> str | None:
        """PUT and return the ETag as the server wrote it; None where the answer is anything but a plain success.

        A body that is not signed (signing is a SHA-256 of it) is guarded by Content-MD5, which is signed.
        """
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        path = f"{self._path}/{quote(key, safe='/~')}{query}"
        request = AWSRequest("PUT", self._server + path, headers=dict(headers), data=body)
        request.context["client_config"] = self._signing[sign_body]
        connection = self._connection()
        try:
            S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
            connection.request("PUT", path, body, dict(request.headers.items()))
            answer = connection.getresponse()
            answer.read()
        except (HTTPException, OSError, BotoCoreError):
            connection.close()
            return None
        self._idle.put(connection)
        return answer.getheader("ETag", "") if answer.status == 200 else None

    def close(self) -> None:
        """Close the connections that are at rest; new ones are made when they are needed."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _connection(self) -> HTTPConnection:
        try:
            return self._idle.get_nowait()
        except Empty:
            if self._tls is None:
                return HTTPConnection(self._host, self._port, timeout=self._patience.read)
            return HTTPSConnection(self._host, self._port, timeout=self._patience.read, context=self._tls)

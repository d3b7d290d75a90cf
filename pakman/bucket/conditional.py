"""Small objects that are replaced: read with their ETag, stored under the condition that nobody was quicker."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from pakman.bucket import failures
from pakman.bucket.connection import Connection
from pakman.bucket.content import md5


@dataclass(frozen=True, slots=True)
class Held:
    """An object as it was at one moment."""

    body: bytes
    etag: str
    """Without quotes."""
    modified: float
    """Seconds since 1970 by the server's clock, which counts whole ones."""


def read(connection: Connection, bucket: str, key: str, most: int, attempts: int) -> Held | None:
    """Return an object, cut off behind `most` bytes and one; None for 403 and 404. Raises botocore's exceptions."""
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

    for attempt in range(1, attempts + 1):
        try:
            answer = connection.client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # Without the right to list, AWS says 403 of what is not there.
            if failures.status(error) in (403, 404) and failures.code(error) != "NoSuchBucket":
                return None
            raise
        # A proxy on the way may send it in pieces, without saying how long it is.
        is_short = "ContentLength" in answer and int(answer["ContentLength"]) <= most
        try:
            body = answer["Body"].read() if is_short else answer["Body"].read(most + 1)
        except (HTTPClientError, IncompleteReadError) as error:
            # botocore tries again until an answer begins, and no more.
            if attempt == attempts:
                raise
            connection.say_why(error)
            continue
        etag = str(answer["ETag"]).strip('"')
        if not etag:
            # Said at once: a condition on it would never hold.
            raise ValueError("an answer without an ETag")
        return Held(body, etag, answer["LastModified"].timestamp())
    return None


def swap(
    connection: Connection, bucket: str, key: str, body: bytes, over: str | None, labels: Mapping[str, str]
) -> str | None:
    """PUT under If-Match `over`, or If-None-Match where it is None; return the ETag, None where that does not hold."""
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": f'"{over}"'}
    try:
        answer = connection.client.put_object(
            Bucket=bucket, Key=key, Body=body, ContentMD5=b64encode(md5(body)).decode(), **labels, **condition
        )
    except ClientError as error:
        # 404: what should be replaced is gone. 409, and 429 of R2 and GCS: others are at it at this very moment.
        if failures.status(error) in (409, 412, 429) or failures.code(error) == "NoSuchKey":
            return None
        raise
    return str(answer["ETag"]).strip('"')


def probe(connection: Connection, bucket: str, key: str) -> bool:
    """Say whether a server heeds the conditions; an object that tells is made, and stays there for the next who asks.

    Raises botocore's exceptions for all else.
    """
    from botocore.exceptions import ClientError

    labels = {"ContentType": "text/plain; charset=utf-8", "CacheControl": "no-store"}
    try:
        for _ in range(2):
            # The first time it is new; and nobody removes it.
            again = swap(connection, bucket, key, _PROBE, None, labels)
            if again is None:
                break
        return again is None and swap(connection, bucket, key, _PROBE, md5(b"another").hex(), labels) is None
    except ClientError as error:
        if failures.code(error) == "NotImplemented" or failures.status(error) == 501:
            return False
        raise


_PROBE = b"pakman asks here whether the server heeds If-None-Match and If-Match: leave it as it is\n"

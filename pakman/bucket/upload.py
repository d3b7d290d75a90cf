"""Storing a file as an object that is not there yet: in one PUT, or in parts."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pakman.bucket import failures
from pakman.bucket.connection import Connection
from pakman.bucket.content import Content, md5
from pakman.errors import BucketError


@dataclass(frozen=True, slots=True)
class Labels:
    """What an object is stored with beside its bytes."""

    content_type: str
    cache_control: str
    sha256: str

    @property
    def parameters(self) -> dict[str, Any]:
        """As boto3 takes them."""
        return {
            "ContentType": self.content_type,
            "CacheControl": self.cache_control,
            "Metadata": {"sha256": self.sha256},
        }

    @property
    def headers(self) -> dict[str, str]:
        """As they travel."""
        return {
            "Content-Type": self.content_type,
            "Cache-Control": self.cache_control,
            "x-amz-meta-sha256": self.sha256,
        }


def whole(connection: Connection, bucket: str, key: str, content: Content, labels: Labels) -> str | None:
    """Store a file in one PUT and return the ETag as the server wrote it; None where an object is there already.

    Raises botocore's exceptions, and BucketError where the file has changed since it was read.
    """
    body = _unchanged(content, 0)
    digest = b64encode(content.md5s[0]).decode()
    if connection.lane is not None:
        headers = {**labels.headers, "Content-MD5": digest}
        if connection.conditional:
            headers["If-None-Match"] = "*"
        etag = connection.lane.put(key, body, headers, sign_body=True)
        if etag is not None:
            return etag

    def put(**condition: str) -> Any:
        return connection.client.put_object(
            Bucket=bucket, Key=key, Body=body, ContentMD5=digest, **labels.parameters, **condition
        )

    with _damage_explained(content, 0):
        return _unless_there(connection, put)


def in_parts(
    connection: Connection,
    bucket: str,
    key: str,
    content: Content,
    labels: Labels,
    parts: Executor,
    on_bytes: Callable[[int], None],
) -> str | None:
    """Store a file as a multipart upload, its parts in `parts`; returns and raises as `whole`.

    Whatever happens, no upload is left behind, unless this process is killed.
    """
    client = connection.client
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key, **labels.parameters)["UploadId"]
    futures: list[Future[str]] = []
    etag = None
    try:
        for number in range(len(content.md5s)):
            futures.append(parts.submit(_put_part, connection, bucket, key, upload_id, content, number, on_bytes))
        etags = [future.result() for future in futures]

        def complete(**condition: str) -> Any:
            listed = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
            return client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}, **condition
            )

        etag = _unless_there(connection, complete)
    except client.exceptions.NoSuchUpload:
        # Another push of the same file has come to its end and cleared up behind itself.
        return None
    finally:
        if etag is None:
            for future in futures:
                future.cancel()
            # A part that arrives after the end would be left behind.
            wait(futures)
            _abort(client, bucket, key, upload_id)
    return etag


def abort_left_behind(connection: Connection, bucket: str, prefix: str, keys: Collection[str]) -> None:
    """End the multipart uploads of these keys below `prefix`, which a killed push has left; free of errors.

    For keys whose objects are there: whoever is still at work on one would find it there already.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    # Some servers cannot list uploads, some credentials may not: what is left there costs room and harms nobody.
    with suppress(ClientError, BotoCoreError):
        for page in connection.client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            for upload in page.get("Uploads", ()):
                if upload["Key"] in keys:
                    _abort(connection.client, bucket, upload["Key"], upload["UploadId"])


def _abort(client: Any, bucket: str, key: str, upload_id: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    # There is a better error than this one on its way up, or none at all.
    with suppress(ClientError, BotoCoreError):
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


def _put_part(
    connection: Connection,
    bucket: str,
    key: str,
    upload_id: str,
    content: Content,
    number: int,
    on_bytes: Callable[[int], None],
) -> str:
    body = _unchanged(content, number)
    digest = b64encode(content.md5s[number]).decode()
    etag = None
    if connection.lane is not None:
        query = f"?partNumber={number + 1}&uploadId={quote(upload_id, safe='')}"
        etag = connection.lane.put(key, body, {"Content-MD5": digest}, query=query, sign_body=False)
    if etag is None:
        with _damage_explained(content, number):
            answer = connection.client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number + 1, Body=body, ContentMD5=digest
            )
        etag = str(answer["ETag"])
    on_bytes(len(body))
    return etag


def _unchanged(content: Content, number: int) -> bytes:
    """Read one part of a file; a change of its length shows here, any other is shown by Content-MD5."""
    try:
        body = content.part(number)
    except OSError as error:
        raise BucketError(
            f"{content.path} can no longer be read: {error.strerror}", hint="push again when it can"
        ) from error
    if len(body) != content.length(number):
        raise _changed(content)
    return body


@contextmanager
def _damage_explained(content: Content, number: int) -> Iterator[None]:
    """Where the server got other bytes than were announced, say so of the file if it is the file that changed."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if failures.code(error) == "BadDigest" and md5(_unchanged(content, number)) != content.md5s[number]:
            raise _changed(content) from error
        raise


def _changed(content: Content) -> BucketError:
    return BucketError(
        f"{content.path} changed while it was being pushed", hint="build first, then push, not both at the same time"
    )


def _unless_there(connection: Connection, store: Callable[..., Any]) -> str | None:
    """Store an object under the condition that none is there; return the ETag, or None where one is."""
    from botocore.exceptions import ClientError

    for attempt in range(1, 4):
        condition = {"IfNoneMatch": "*"} if connection.conditional else {}
        try:
            return str(store(**condition)["ETag"])
        except ClientError as error:
            if failures.status(error) == 412:
                return None
            if failures.code(error) == "NotImplemented" and condition:
                # B2 and others do not know the condition; that nothing is there has been looked up before.
                connection.conditional = False
            elif failures.status(error) == 409 and attempt < 3:
                # Another push is storing the same object at this very moment.
                time.sleep(0.2 * attempt)
            else:
                raise
    return None

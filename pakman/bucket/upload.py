"""Storing a file as an object that is not there yet: in one PUT, or in parts."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

from pakman.bucket import failures
from pakman.bucket.connection import Connection
from pakman.bucket.content import Content, md5

_DAY = 86_400
"""Seconds."""
_MOST_PAGES = 100
"""Of uploads that are left behind, a thousand on each; the next push looks for the rest."""
_SECONDS = 2.0
"""Between two reports on one body, at least."""


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


class Meter:
    """Tells how many bytes of a body have gone: now and then on a slow line, the rest when all of it has arrived."""

    def __init__(self, size: int, on_bytes: Callable[[int], None]) -> None:
        self._left = size
        self._untold = 0
        self._on_bytes = on_bytes
        self._told_at = time.monotonic()

    def add(self, count: int) -> None:
        """Count bytes that have gone; it may be for nothing, and they go again."""
        self._untold += count
        if time.monotonic() - self._told_at >= _SECONDS and self._untold < self._left:
            self._tell(self._untold)

    def end(self) -> None:
        """All of it has arrived."""
        self._tell(self._left)

    def _tell(self, count: int) -> None:
        self._left -= count
        self._untold = 0
        self._told_at = time.monotonic()
        self._on_bytes(count)


@dataclass(frozen=True, slots=True)
class Sent:
    """An object's ETag as the server wrote it, None where an object was there already; the MD5s of what was sent."""

    etag: str | None
    md5s: tuple[bytes, ...]


def whole(
    connection: Connection, bucket: str, key: str, content: Content, labels: Labels, on_bytes: Callable[[int], None]
) -> Sent:
    """Store a file in one PUT. Raises botocore's exceptions, and BucketError where the file has changed."""
    body = content.part(0)
    meter = Meter(len(body), on_bytes)
    digest = md5(body)
    encoded = b64encode(digest).decode()
    etag = None
    if connection.lane is not None:
        headers = {**labels.headers, "Content-MD5": encoded}
        if connection.conditional:
            headers["If-None-Match"] = "*"
        etag = connection.lane.put(key, body, headers, sign_body=True, on_sent=meter.add)
    if etag is None:

        def put(**condition: str) -> Any:
            return connection.client.put_object(
                Bucket=bucket, Key=key, Body=body, ContentMD5=encoded, **labels.parameters, **condition
            )

        etag = _unless_there(connection, put)
    meter.end()
    return Sent(etag, (digest,))


def in_parts(
    connection: Connection,
    bucket: str,
    key: str,
    content: Content,
    labels: Labels,
    parts: Executor,
    on_bytes: Callable[[int], None],
    before_it_shows: Callable[[], object],
) -> Sent:
    """Store a file as a multipart upload, its parts in `parts`; raises as `whole` and `before_it_shows` do.

    Whatever happens, no upload is left behind, unless this process is killed.
    """
    client = connection.client
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key, **labels.parameters)["UploadId"]
    futures: list[Future[tuple[str, bytes]]] = []
    etag = None
    try:
        for number in range(content.parts):
            futures.append(parts.submit(_put_part, connection, bucket, key, upload_id, content, number, on_bytes))
        sent = [future.result() for future in futures]
        before_it_shows()

        def complete(**condition: str) -> Any:
            listed = [{"PartNumber": number, "ETag": etag} for number, (etag, _) in enumerate(sent, 1)]
            return client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}, **condition
            )

        etag = _unless_there(connection, complete)
        return Sent(etag, tuple(digest for _, digest in sent))
    except client.exceptions.NoSuchUpload:
        # Another push of the same file has come to its end and cleared up behind itself.
        return Sent(None, ())
    finally:
        if etag is None:
            # A part that arrives after the end would be left behind. Not concurrent.futures.wait: for what an executor
            # has cancelled itself, when it was shut down, that waits for ever.
            for future in [each for each in futures if not each.cancel()]:
                future.exception()
            _abort(client, bucket, key, upload_id)


def abort_left_behind(connection: Connection, bucket: str, prefix: str, keys: Collection[str]) -> None:
    """End the multipart uploads of these keys, and those below `prefix` that are older than a day; free of errors."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = connection.client
    # Some servers cannot list uploads, some credentials may not: what is left there costs room and harms nobody.
    with suppress(ClientError, BotoCoreError):
        # MinIO lists those of one key only, of a prefix none.
        for listed in (prefix, *keys):
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=listed)
            # A server's pages need not end.
            for page in islice(pages, _MOST_PAGES):
                now = _clock(page)
                for upload in page.get("Uploads", ()):
                    if upload["Key"] in keys or now - upload["Initiated"].timestamp() > _DAY:
                        _abort(client, bucket, upload["Key"], upload["UploadId"])


def _clock(answer: Any) -> float:
    """Return the seconds since 1970 by the server's clock, which has nothing to do with ours; 0 where it says none."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError):
        return 0


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
) -> tuple[str, bytes]:
    body = content.part(number)
    meter = Meter(len(body), on_bytes)
    digest = md5(body)
    encoded = b64encode(digest).decode()
    etag = None
    if connection.lane is not None:
        query = f"partNumber={number + 1}&uploadId={quote(upload_id, safe='')}"
        # A server that has been given an MD5 may compute it twice, and what it answers shows as well what has arrived.
        guard = {} if connection.answers_md5 else {"Content-MD5": encoded}
        etag = connection.lane.put(key, body, guard, query=query, sign_body=False, on_sent=meter.add)
        if not guard and (etag is None or etag.strip('"') != digest.hex()):
            connection.answers_md5, etag = False, None
    if etag is None:
        answer = connection.client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number + 1, Body=body, ContentMD5=encoded
        )
        etag = str(answer["ETag"])
    meter.end()
    return etag, digest


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

"""The bucket: an S3-compatible store of objects, whoever runs it.

Keys are whole keys, with the location's prefix. Each failure of the server, or of the way to it, is a BucketError.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from pakman.bucket import conditional, failures, reading, upload
from pakman.bucket.conditional import Held
from pakman.bucket.connection import Access, Addressing, Connection, access
from pakman.bucket.content import Content, etag, md5
from pakman.bucket.location import Location, parse, public_address
from pakman.bucket.upload import Labels
from pakman.bucket.waiting import Patience, Seldom
from pakman.errors import BucketError

__all__ = ["Bucket", "Content", "Held", "Location", "Patience", "Stored", "open_bucket", "parse"]

Outcome = Literal["stored", "same", "different"]
"""What became of an object: it is new there, its bytes were there already, other bytes are there and stay there."""


_MOST_LISTED = 2_000_000
"""Keys below one prefix, each a few hundred bytes here; a server may go on for ever. Ten packages a day for
thirty years are a hundred thousand."""
_MOST_PAGES = 20_000
"""AWS gives a thousand keys on each, some servers fewer, and a page may have none."""
_COPIED_AT_ONCE = 1 << 30
"""Bytes; S3 copies up to 5 GB in one request, which has to be answered in time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in the bucket: its size in bytes and its ETag without quotes."""

    size: int
    etag: str
    modified: float = field(default=0, compare=False)
    """Seconds since 1970, UTC, where it was listed; 0 elsewhere."""


def open_bucket(
    text: str,
    *,
    prefix: str | None = None,
    endpoint_url: str | None,
    region: str | None,
    addressing: Addressing = "auto",
    public_url: str | None = None,
    concurrency: int = 16,
    on_wait: Callable[[str], None] = lambda _sentence: None,
    env: Mapping[str, str],
) -> Bucket:
    """Return the bucket that `s3://NAME[/PREFIX]` names; nothing is asked of the server yet. Raises UsageError.

    `prefix` goes behind the one in `text`; the rest is as in Bucket.
    """
    return Bucket(
        parse(text, prefix or ""),
        endpoint_url=endpoint_url,
        region=region,
        addressing=addressing,
        public_url=None if public_url is None else public_address(public_url),
        concurrency=concurrency,
        on_wait=on_wait,
        env=env,
    )


class Bucket:
    """One bucket. Connects when it is first needed; its methods may be called from many threads.

    `env` has the usual AWS variables; where it has no keys, boto3 looks into profiles and roles. `addressing` says
    where a URL has the bucket's name (auto: in the path where a server's address is given, else in the host).
    `public_url` is the address under which readers see the bucket's root, where that is another than the server's.
    `concurrency` is the number of files that are on their way at the same time. `on_wait` is told, from any of their
    threads, why the server is asked again; not more often than every ten seconds.
    """

    def __init__(
        self,
        location: Location,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        env: Mapping[str, str],
        public_url: str | None = None,
        addressing: Addressing = "auto",
        concurrency: int = 16,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        on_wait: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.location = location
        self.concurrency = concurrency
        self._public_url = public_url
        self._access: Access = access(
            location,
            endpoint_url=endpoint_url,
            region=region,
            env=env,
            addressing=addressing,
            concurrency=concurrency,
            patience=patience,
            on_wait=Seldom(on_wait).hand_on,
        )
        self._opening = threading.Lock()
        self._opened: Connection | None = None
        self._has_conditions = False

    def __repr__(self) -> str:
        return f"Bucket({self._access.place})"

    def _connection(self) -> Connection:
        with self._opening:
            if self._opened is None:
                with failures.told(self._access):
                    self._opened = Connection(self._access)
                    self._access = self._opened.access
            return self._opened

    def close(self) -> None:
        """Close the connections that are at rest; the bucket opens others when it is used again."""
        with self._opening:
            if self._opened is not None and self._opened.lane is not None:
                self._opened.lane.close()

    @property
    def _client(self) -> Any:
        return self._connection().client

    def url(self, key: str) -> str:
        """Return where readers find an object."""
        return f"{(self._public_url or self._connection().base_url).rstrip('/')}/{key}"

    def list(self, prefix: str, *, most: int | None = None) -> dict[str, Stored] | None:
        """Return the objects whose keys begin with `prefix`; None where the credentials allow no listing.

        No further ones are asked for once there are `most`.
        """
        from botocore.exceptions import ClientError

        found: dict[str, Stored] = {}
        with failures.told(self._access):
            try:
                for page in self._pages(prefix):
                    # What parses and says nothing is some web page, or another API.
                    if "Name" not in page:
                        raise failures.failure(self._access, "", failures.NOT_S3)
                    for entry in page.get("Contents", ()):
                        found[entry["Key"]] = Stored(
                            int(entry["Size"]), str(entry["ETag"]).strip('"'), entry["LastModified"].timestamp()
                        )
                    if most is not None and len(found) >= most:
                        break
            except ClientError as error:
                if failures.code(error) != "AccessDenied":
                    raise
                return None
        return found

    def folders(self, prefix: str) -> tuple[str, ...] | None:
        """Return what stands between `prefix` and the next slash in keys; None where one may not list."""
        from botocore.exceptions import ClientError

        found: list[str] = []
        with failures.told(self._access):
            try:
                for page in self._pages(prefix, Delimiter="/"):
                    entries = page.get("CommonPrefixes", ())
                    found += [each["Prefix"].removeprefix(prefix).rstrip("/") for each in entries]
            except ClientError as error:
                if failures.code(error) != "AccessDenied":
                    raise
                return None
        return tuple(sorted(found))

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, of which there are not more than a bucket of ours could have."""
        listed = self._client.get_paginator("list_objects_v2")
        count = 0
        for number, page in enumerate(listed.paginate(Bucket=self.location.name, Prefix=prefix, **more), 1):
            count += len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ()))
            if number > _MOST_PAGES or count > _MOST_LISTED:
                raise failures.failure(
                    self._access,
                    prefix,
                    (
                        f"the listing does not end: it has {count} entries on {number} pages so far",
                        "look at what is there, and whether it is an S3 server",
                    ),
                )
            yield page

    def head(self, key: str) -> Stored | None:
        """Return an object's size and ETag; None where it is not there, or where one may not know."""
        answer = self._head(key)
        with failures.told(self._access, key):
            return None if answer is None else Stored(int(answer["ContentLength"]), str(answer["ETag"]).strip('"'))

    def _head(self, key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        with failures.told(self._access, key):
            try:
                return dict(self._client.head_object(Bucket=self.location.name, Key=key))
            except ClientError as error:
                # Without the right to list, AWS says 403 of what is not there.
                if failures.status(error) in (403, 404):
                    return None
                raise

    def holds(self, key: str, content: Content, stored: Stored) -> bool:
        """Say whether an object that is there has these bytes: by its ETag, a digest stored with it, or reading it."""
        if stored.size != content.size:
            return False
        if stored.etag == etag(content.md5s()):
            return True
        # An ETag is no MD5 where the server encrypts, and another where the object was uploaded in other parts.
        noted = (self._head(key) or {}).get("Metadata", {}).get("sha256")
        return (noted or self._read_sha256(key)) == content.sha256

    def sha256(self, key: str, on_bytes: Callable[[int], None] = lambda _count: None) -> str | None:
        """Return the SHA-256 of an object, in hex, which is read for it; None where it is not there.

        `on_bytes` is called as by `download`.
        """
        if self.head(key) is None:
            return None
        try:
            return self._read_sha256(key, on_bytes)
        except BucketError:
            if self.head(key) is not None:
                raise
            return None

    def download(
        self, key: str, file: IO[bytes], most: int, on_bytes: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Write an object of at most `most` bytes to a file; `on_bytes` is told how many have just arrived, first 0."""
        on_bytes(0)
        with failures.told(self._access, key):
            left = most
            for block in self._blocks(key):
                left -= len(block)
                if left < 0:
                    raise self._too_large(key, most)
                file.write(block)
                on_bytes(len(block))

    def _blocks(self, key: str) -> Iterator[bytes]:
        return reading.blocks(self._connection(), self.location.name, key, self._access.patience.attempts)

    def _too_large(self, key: str, most: int) -> BucketError:
        return BucketError(
            f"{key} in {self._access.place} is larger than {most} bytes, which is the most that it may have",
            hint="it is not of pakman's making: look at what it is, and remove it",
        )

    def read(self, key: str, most: int) -> Held | None:
        """Return an object of at most `most` bytes, whole; None where it is not there, or where one may not know."""
        with failures.told(self._access, key):
            held = conditional.read(self._connection(), self.location.name, key, most, self._access.patience.attempts)
        if held is not None and len(held.body) > most:
            raise self._too_large(key, most)
        return held

    def swap(self, key: str, body: bytes, *, over: str | None, content_type: str, cache_control: str) -> str | None:
        """Store an object over the one with the ETag `over`, None for none; return its ETag, or None: read it again.

        None means that another was quicker, or that the server did as it was told and its answer was lost.
        """
        labels = {"ContentType": content_type, "CacheControl": cache_control}
        with failures.told(self._access, key):
            found = conditional.swap(self._connection(), self.location.name, key, body, over, labels)
        if found is None or found == md5(body).hex():
            return found
        # No MD5 where a server encrypts; or damage, which whoever reads it again finds out.
        held = self.read(key, len(body))
        return held.etag if held is not None and held.body == body else None

    def refuse_without_conditions(self) -> None:
        """Raise BucketError where the server does not heed the conditions of `swap`; one small object stays there."""
        if self._has_conditions:
            return
        key = self.location.key("conditional-writes")
        with failures.told(self._access):
            self._has_conditions = conditional.probe(self._connection(), self.location.name, key)
        if not self._has_conditions:
            # Who pushes need not have the right to delete.
            with suppress(BucketError):
                self.delete([key])
            raise BucketError(
                f"{self._access.place} does not heed the conditions of a write (If-Match, If-None-Match): of two "
                "pushes at the same time one would be lost",
                hint="push without --channel: each commit has a repository of its own then; or take a server that "
                "has conditional writes: AWS, R2, MinIO and SeaweedFS do",
            )

    def now(self) -> float:
        """Return the time by the server's clock, which is that of `modified`: seconds since 1970."""
        from email.utils import parsedate_to_datetime

        with failures.told(self._access):
            answer = self._client.list_objects_v2(Bucket=self.location.name, Prefix=self.location.prefix, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return parsedate_to_datetime(date).timestamp()
        except ValueError as error:
            raise BucketError(
                f"{self._access.place} does not say what time it is: its answer has no Date",
                hint="look at proxies on the way; every HTTP server that has a clock says so",
            ) from error

    def copy(self, source: str, key: str, *, cache_control: str, notes: Mapping[str, str]) -> None:
        """Make an object, or replace it, by a copy of another one, which stays within the server; it bears `notes`."""
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import ClientError

        with failures.told(self._access, key):
            try:
                self._client.copy(
                    {"Bucket": self.location.name, "Key": source},
                    self.location.name,
                    key,
                    ExtraArgs={
                        "MetadataDirective": "REPLACE",
                        "ContentType": "application/octet-stream",
                        "CacheControl": cache_control,
                        "Metadata": dict(notes),
                    },
                    # In one request: of one in parts, a killed push leaves an upload that nobody else may end.
                    Config=TransferConfig(multipart_threshold=_COPIED_AT_ONCE),
                )
            except ClientError as error:
                if failures.status(error) != 404 or failures.code(error) == "NoSuchBucket":
                    raise
                raise BucketError(
                    f"{source} in {self._access.place} is not there, and {key} should be a copy of it",
                    hint="somebody has removed it: push it again",
                ) from error

    def notes(self, key: str) -> dict[str, str] | None:
        """Return what an object bears beside its bytes; None where it is not there, or where one may not know."""
        answer = self._head(key)
        return None if answer is None else dict(answer.get("Metadata", {}))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        # One by one: of the request for many some servers want a checksum that others refuse.
        for key in keys:
            with failures.told(self._access, key):
                self._client.delete_object(Bucket=self.location.name, Key=key)

    def _read_sha256(self, key: str, on_bytes: Callable[[int], None] = lambda _count: None) -> str:
        digest = hashlib.sha256()
        on_bytes(0)
        with failures.told(self._access, key):
            for block in self._blocks(key):
                digest.update(block)
                on_bytes(len(block))
        return digest.hexdigest()

    def put_new(
        self,
        key: str,
        content: Content,
        *,
        content_type: str,
        cache_control: str,
        parts: Executor,
        on_bytes: Callable[[int], None] = lambda _count: None,
        before_it_shows: Callable[[], object] = lambda: None,
    ) -> Outcome:
        """Store an object that is not there yet, and verify that it arrived; never replaces one.

        A large file goes up in parts, in `parts`, whose threads may call `on_bytes` with the number of bytes that have
        arrived, first 0; before they become an object, `before_it_shows` may still raise. Where another push was
        quicker, its object is compared.
        """
        on_bytes(0)
        connection, labels = self._connection(), Labels(content_type, cache_control, content.sha256)
        with failures.told(self._access, key):
            if content.parts == 1:
                before_it_shows()
                sent = upload.whole(connection, self.location.name, key, content, labels, on_bytes)
            else:
                sent = upload.in_parts(
                    connection, self.location.name, key, content, labels, parts, on_bytes, before_it_shows
                )
        if sent.etag is None:
            return self._compare(key, content)
        self._verify(key, content, sent.etag.strip('"'), etag(sent.md5s))
        return "stored"

    def _verify(self, key: str, content: Content, answered: str, expected: str) -> None:
        """The ETag proves what arrived; of an object in parts, the server is also asked what it made of them."""
        stored = Stored(content.size, answered) if content.parts == 1 else self.head(key)
        if stored is not None and stored == Stored(content.size, expected):
            return
        # Not the digest that the server should have come to: a server that encrypts, or damage. Reading it tells.
        if stored is None or stored.size != content.size or self._read_sha256(key) != content.sha256:
            raise BucketError(
                f"{key} in {self._access.place}: what arrived is not what was sent",
                hint="remove the object and run it again; if it happens again, look at proxies on the way",
            )

    def _compare(self, key: str, content: Content) -> Outcome:
        stored = self.head(key)
        if stored is None:
            raise BucketError(
                f"{key} in {self._access.place}: the server says that it is there already, and that it is not",
                hint="run it again; if it happens again, the credentials may lack s3:GetObject",
            )
        return "same" if self.holds(key, content, stored) else "different"

    def abort_left_behind(self, folder: str, keys: Collection[str]) -> None:
        """End the multipart uploads that killed pushes have left behind: of these keys, and old ones below `folder`.

        Only for keys whose objects are there: another push that is still at work on one then finds it there. No push
        takes a day, so what was begun before that is nobody's any more.
        """
        upload.abort_left_behind(self._connection(), self.location.name, f"{folder}/", keys)

"""An object as a stream that goes on where the connection broke."""

from __future__ import annotations

from collections.abc import Iterator

from pakman.bucket.connection import Connection

_BLOCK = 1 << 20


def blocks(connection: Connection, bucket: str, key: str, attempts: int) -> Iterator[bytes]:
    """Yield an object's bytes, asked for at most `attempts` times in all. Raises botocore's exceptions.

    botocore tries again until an answer begins, and no more.
    """
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    position = 0
    rest: dict[str, str] = {}
    for attempt in range(1, attempts + 1):
        answer = connection.client.get_object(Bucket=bucket, Key=key, **rest)
        # Some servers and proxies know no ranges, and begin at the beginning.
        known = 0 if answer["ResponseMetadata"]["HTTPStatusCode"] == 206 else position
        try:
            for block in answer["Body"].iter_chunks(_BLOCK):
                new = block[known:]
                known -= len(block) - len(new)
                position += len(new)
                yield new
        except (HTTPClientError, IncompleteReadError) as error:
            if attempt == attempts:
                raise
            connection.say_why(error)
            if position:
                rest = {"Range": f"bytes={position}-", "IfMatch": answer["ETag"]}
        else:
            return

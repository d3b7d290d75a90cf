"""The quick way to store."""

from __future__ import annotations

import hashlib
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, urlsplit

from pakman.bucket import sigv4
from pakman.bucket.waiting import Patience

ELSEWHERE = (301, 307, 400)
"""What a server answers that has the bucket in another region; it says in which."""
_REGION = re.compile(rb"<Region>([A-Za-z0-9-]{1,63})</Region>")
TOO_MANY = 429
BUSY = (TOO_MANY, 500, 502, 503, 504)
"""What a server answers that is to be asked again."""
_SLICE = 64 << 10
"""Bytes. On a line of 10 KB a second one is gone within the ten seconds after which something is to be said."""


class Lane:
    """A PUT without what boto3 does around it, which is four times the work of signing and sending it.

    For the first try only: whatever is not a plain success is asked again through boto3, which knows about the rest.
    """

    def __init__(
        self,
        base_url: str,
        region: str,
        credentials: Any,
        ca_bundle: str | None,
        patience: Patience,
        on_wait: Callable[[str], None],
    ) -> None:
        from botocore.httpsession import get_cert_path

        parts = urlsplit(base_url)
        self._path = parts.path
        usual = {"http": 80, "https": 443}[parts.scheme]
        # Never None: http.client would look for the port in the host, and find one in an IPv6 address.
        self._host, self._port = parts.hostname or "", usual if parts.port is None else parts.port
        self._host_header = f"[{self._host}]" if ":" in self._host else self._host
        if self._port != usual:
            self._host_header += f":{self._port}"
        self._region = region
        """Changes where a server says that it has another one."""
        self._credentials = credentials
        self._patience = patience
        self._on_wait = on_wait
        """Is told why something is asked again."""
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=ca_bundle or get_cert_path(verify=True))
        self._idle: SimpleQueue[HTTPConnection] = SimpleQueue()

    def put(
        self,
        key: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        query: str = "",
        sign_body: bool,
        on_sent: Callable[[int], None],
    ) -> str | None:
        """PUT and return the ETag as the server wrote it; None where the answer is anything but a plain success.

        A body that is not signed (signing is a SHA-256 of it) is guarded by a Content-MD5 among the headers, which are
        signed, or by whoever compares the ETag. `on_sent` is called with the number of bytes that have left.
        """
        from botocore.exceptions import BotoCoreError

        path = f"{self._path}/{quote(key, safe='/~')}"
        connection = self._connection()
        silence = f"no connection within {self._patience.connect:g} seconds"
        try:
            signed = sigv4.signed(
                "PUT",
                path,
                query,
                {**headers, "Host": self._host_header},
                hashlib.sha256(body).hexdigest() if sign_body else sigv4.UNSIGNED,
                credentials=self._credentials.get_frozen_credentials(),
                region=self._region,
                moment=time.gmtime(),
            )
            if connection.sock is None:
                connection.connect()
            silence = f"no answer within {self._patience.read:g} seconds"
            connection.sock.settimeout(self._patience.read)
            target = f"{path}?{query}" if query else path
            length = {"Content-Length": str(len(body))}
            connection.request("PUT", target, _slices(body, on_sent), {**signed, **length})
            answer = connection.getresponse()
            said = answer.read()
        except TimeoutError:
            connection.close()
            self._on_wait(silence)
            return None
        except (HTTPException, OSError, BotoCoreError):
            # Often a connection that has been at rest for too long.
            connection.close()
            return None
        self._idle.put(connection)
        if answer.status == 200:
            return answer.getheader("ETag", "")
        if answer.status in ELSEWHERE and (region := _REGION.search(said)):
            self._region = region[1].decode()
        if answer.status in BUSY:
            self._on_wait(f"it answers {answer.status}")
            # All those that were refused at the same moment would be so again if they came back together.
            time.sleep(random.random())  # noqa: S311
        return None

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
                return HTTPConnection(self._host, self._port, timeout=self._patience.connect)
            return HTTPSConnection(self._host, self._port, timeout=self._patience.connect, context=self._tls)


def _slices(body: bytes, on_sent: Callable[[int], None]) -> Iterator[memoryview]:
    """Yield a body piece by piece, and say how much has gone when the next one is asked for."""
    view = memoryview(body)
    for start in range(0, len(body), _SLICE):
        piece = view[start : start + _SLICE]
        yield piece
        on_sent(len(piece))

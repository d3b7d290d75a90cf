"""A server that stands before the S3 server and lets things go wrong."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet


@dataclass(frozen=True)
class Request:
    """A request on its way to the S3 server."""

    method: str
    path: str
    """With the query."""
    headers: Mapping[str, str]
    number: int
    """Counted from 1, over all that came."""


@dataclass
class Answer:
    """An answer; of the S3 server, or instead of it."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    """The Content-Length, where it is not the body's: the connection is closed then."""
    seconds: float = 0
    """Waited before it is given; the proxy's end cuts it short."""
    drip: float = 0
    """Seconds between the body's bytes."""
    is_reset: bool = False
    """Behind the body, and that may be a part of it, the connection is reset."""


def with_etag(answer: Answer, etag: str) -> Answer:
    """Let an answer have this ETag, in its quotes, in place of its own."""
    answer.headers = {name: value for name, value in answer.headers.items() if name.lower() != "etag"}
    answer.headers["ETag"] = etag
    return answer


def s3_error(status: int, code: str, **more: str) -> Answer:
    """Return an error as S3 words it."""
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in {"Code": code, "Message": "No.", **more}.items())
    return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?><Error>{elements}</Error>'.encode())


Begun = Callable[[Request], object]
Before = Callable[[Request], Answer | None]
After = Callable[[Request, Answer], Answer]
Between = Callable[[Request, bytes], bytes]


@contextmanager
def proxy(
    upstream: str,
    *,
    begun: Begun = lambda _request: None,
    before: Before = lambda _request: None,
    between: Between = lambda _request, body: body,
    after: After = lambda _request, answer: answer,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Yield the address of a proxy for the server at `upstream`; at the end nothing is on its way to that any more.

    `begun` is called before a request's body is read: where it raises, the connection is reset in the middle of that.
    What `before` returns is answered without asking the server; `between` may change the body that the server gets,
    `after` what the server answered.
    """
    server = _Server(urlsplit(upstream).netloc, begun, before, between, after)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.ends.set()
        server.shutdown()
        server.server_close()
        thread.join()
        server.wait_for_the_last()
        server.disconnect()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str, begun: Begun, before: Before, between: Between, after: After) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.begun, self.before, self.between, self.after = begun, before, between, after
        self.ends = threading.Event()
        self._lock = threading.Condition()
        self._count = self._asking = 0
        self._connections: WeakSet[socket.socket] = WeakSet()

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what some tests are about."""

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def disconnect(self) -> None:
        """Let go of clients that would like to ask more: each has a thread here, and what that has in memory."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def number(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Note that a request is on its way to the server behind."""
        with self._lock:
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1
                self._lock.notify_all()

    def wait_for_the_last(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._asking, timeout=30)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def _forward(self) -> None:
        request = Request(self.command, self.path, dict(self.headers.items()), self.server.number())
        self.server.begun(request)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError
        answer = self.server.before(request)
        if answer is None:
            with self.server.asking():
                answer = self.server.after(request, self._ask(self.server.between(request, body)))
        self._give(answer)

    def _ask(self, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def _give(self, answer: Answer) -> None:
        self.server.ends.wait(answer.seconds)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(answer.promised or len(answer.body)))
        self.close_connection = self.close_connection or answer.promised is not None
        self.end_headers()
        if self.command != "HEAD":
            for piece in (answer.body,) if not answer.drip else (bytes([byte]) for byte in answer.body):
                self.wfile.write(piece)
                self.server.ends.wait(answer.drip)
        if answer.is_reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

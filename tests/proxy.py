"""A server that stands before the S3 server and lets things go wrong."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


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


def s3_error(status: int, code: str, **more: str) -> Answer:
    """Return an error as S3 words it."""
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in {"Code": code, "Message": "No.", **more}.items())
    return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?><Error>{elements}</Error>'.encode())


Before = Callable[[Request], Answer | None]
After = Callable[[Request, Answer], Answer]


@contextmanager
def proxy(
    upstream: str,
    *,
    before: Before = lambda _request: None,
    after: After = lambda _request, answer: answer,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Yield the address of a proxy for the server at `upstream`.

    What `before` returns is answered without asking the server; `after` may change what the server answered.
    """
    address = urlsplit(upstream).netloc
    lock = threading.Lock()
    count = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def _forward(self) -> None:
            nonlocal count
            with lock:
                count += 1
                request = Request(self.command, self.path, dict(self.headers.items()), count)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = before(request) or after(request, self._ask(body))
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or str(answer.promised or len(answer.body)))
            self.close_connection = self.close_connection or answer.promised is not None
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def _ask(self, body: bytes) -> Answer:
            connection = http.client.HTTPConnection(address, timeout=30)
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

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """A client that goes away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The deployment service for tests: takes only what its contract says, remembers it, and lets things go wrong."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.servers import S3Server

PACKAGE_TOKEN = "package-token-of-the-tests-0123456789"
AUTH_TOKEN = "auth-token-of-the-tests-0123456789"


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By name in lower case."""
    content: Any
    """What its JSON holds; None where it has no body."""
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Fault:
    """What is answered instead: a status with a body; or nothing whole."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0
    """Waited before the answer."""
    drip: float = 0
    """Seconds between the body's bytes."""
    promised: int = 0
    """Bytes that the Content-Length says beyond the body's."""
    reset: bool = False
    after: bool = False
    """The request is heeded before its answer goes wrong."""


HTML = Fault(200, b"<!doctype html><title>Welcome</title>", {"content-type": "text/html"})


@dataclass
class Service:
    """What the service knows, and what it was asked."""

    storage: Mapping[str, Any]
    known: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """Deployments by ref and hash."""
    configurations: dict[int, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    """What was asked against the contract."""
    refuses: Any = None
    """What is wrong with every configuration: the body of a 422."""
    before: Callable[[Asked], Fault | None] = lambda _asked: None
    """Says what goes wrong with a request."""
    tokens: list[str] = field(default_factory=list)
    """Those that were given out and still hold."""
    endpoint: str = ""

    @property
    def env(self) -> dict[str, str]:
        """What pakman is told."""
        return {
            "INSTELLAR_ENDPOINT": self.endpoint,
            "INSTELLAR_PACKAGE_TOKEN": PACKAGE_TOKEN,
            "INSTELLAR_AUTH_TOKEN": AUTH_TOKEN,
        }

    @property
    def lines(self) -> list[str]:
        """What was asked, as `GET /path`."""
        return [str(each) for each in self.asked]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Heed a request; note where it breaks the contract."""
        self._check(asked)
        if asked.path == "/publish/automation/callback":
            if asked.content != {"auth_token": AUTH_TOKEN}:
                return 404, {"data": {"errors": {"detail": "not_found"}}}
            self.tokens.append(f"session-{len(self.tokens)}-{'0123456789' * 3}")
            return 201, {"data": {"token": self.tokens[-1]}}
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, {}
        if asked.headers.get("x-instellar-package-token") != PACKAGE_TOKEN:
            return 404, {}
        if asked.path == "/publish/storage":
            return 200, {"data": {"attributes": self.storage}}
        if asked.path == "/publish/deployments":
            return self._deployment(asked.content["deployment"])
        if found := re.fullmatch(r"/publish/deployments/(\d+)/configurations", asked.path):
            return self._configuration(int(found[1]), asked.content["configuration"]["payload"])
        sha = asked.path.rpartition("/")[2]
        there = [each for (_, known), each in self.known.items() if known == sha]
        return (200, {"data": {"attributes": there[-1]}}) if there else (404, {})

    def _deployment(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        key = (wanted["ref"], wanted["hash"])
        is_new = key not in self.known
        attributes = {"id": len(self.known) + 1, "archive_path": wanted["archive_path"]}
        return 201 if is_new else 200, {"data": {"attributes": self.known.setdefault(key, attributes)}}

    def _configuration(self, number: int, payload: Any) -> tuple[int, Any]:
        if self.refuses is not None:
            return 422, self.refuses
        is_new = number not in self.configurations
        self.configurations[number] = payload
        return 201 if is_new else 200, {"data": {"id": number}}

    def _check(self, asked: Asked) -> None:
        known = {
            "POST /publish/automation/callback": {"auth_token": str},
            "GET /publish/storage": None,
            "POST /publish/deployments": {"deployment": {"ref": str, "hash": str, "archive_path": str, "stack": str}},
            r"POST /publish/deployments/\d+/configurations": {
                "configuration": {"payload": {"kits": list, "sizes": list, "plans": list, "page": dict}}
            },
            r"GET /publish/deployments/[0-9a-f]{40}": None,
        }
        shape: Any = next((known[call] for call in known if re.fullmatch(call, str(asked))), "none")
        if shape == "none":
            self.breaches.append(f"{asked} is no call")
            return
        if asked.headers.get("accept") != "application/json":
            self.breaches.append(f"{asked} does not ask for JSON")
        if shape is None:
            if asked.content is not None:
                self.breaches.append(f"{asked} has a body")
        elif asked.headers.get("content-type") != "application/json" or not _has_shape(asked.content, shape):
            self.breaches.append(f"{asked} sends {asked.content}")
        is_callback = asked.path.endswith("/callback")
        for name in ("authorization", "x-instellar-package-token"):
            if (name in asked.headers) == is_callback:
                self.breaches.append(f"{asked}: {name}")


_JSON = {"content-type": "application/json"}
_Served = TypeVar("_Served", bound=Service)
_OPTIONAL = {"stack", "sizes", "plans", "page"}


def _has_shape(content: Any, shape: Any) -> bool:
    if isinstance(shape, type):
        return isinstance(content, shape)
    return (
        isinstance(content, dict)
        and set(shape) - _OPTIONAL <= set(content) <= set(shape)
        and all(_has_shape(value, shape[key]) for key, value in content.items())
    )


def storage_of(server: S3Server, bucket: str) -> dict[str, Any]:
    """Return how the service describes a bucket."""
    address = urlsplit(server.endpoint)
    return {
        "host": address.hostname,
        "port": address.port,
        "scheme": "http://",
        "region": "us-east-1",
        "bucket": bucket,
        "credential": {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key},
    }


@dataclass
class Receiver(Service):
    """Somebody who wants to know of releases; `storage` is of no meaning here."""

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Take whatever comes: what it is, is for the test to see."""
        return 204, None


def running_service(storage: Mapping[str, Any] | None = None) -> AbstractContextManager[Service]:
    """Start the service on a loopback port; at the end nothing may have been asked against its contract."""
    return running(Service(storage or {}))


@contextmanager
def running(service: _Served) -> Iterator[_Served]:
    """Start something that answers on a loopback port; at the end nothing may have been asked against its contract."""
    lock = threading.Lock()
    ends = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            content = json.loads(body) if body else None
            asked = Asked(self.command, self.path, headers, content, body)
            with lock:
                service.asked.append(asked)
            fault = service.before(asked)
            with lock:
                status, said = service.answer(asked) if fault is None or fault.after else (0, None)
            if fault is None:
                fault = Fault(status, b"" if status == 204 else json.dumps(said).encode(), _JSON)
            self._send(fault)

        def _send(self, fault: Fault) -> None:
            if fault.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            ends.wait(fault.seconds)
            self.send_response_only(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(fault.body) + fault.promised))
            self.end_headers()
            self.close_connection = bool(fault.promised)
            if not fault.drip:
                self.wfile.write(fault.body)
                return
            for byte in fault.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                ends.wait(fault.drip)

        do_GET = do_POST = _serve  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    service.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        ends.set()
        server.shutdown()
        server.server_close()
        thread.join()
    assert service.breaches == []

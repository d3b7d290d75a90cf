"""What goes wrong on the way to the bucket, during each command that ships: what the user sees, and what is left.

tests/golden/faults.md is the table of it: `pytest tests/integration/test_faults.py --update-golden` writes it anew.
"""

from __future__ import annotations

import functools
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import formatdate
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pakman import cli
from pakman.bucket import Bucket, Patience
from tests.instellar_service import running_service
from tests.proxy import Answer, Request, proxy, s3_error
from tests.scenes import COMMIT, OTHER, Scene, Scenes
from tests.servers import S3Server
from tests.stores import ARCH

pytestmark = pytest.mark.s3

TABLE = Path(__file__).parents[1] / "golden" / "faults.md"
COMMANDS = ("push", "push --channel", "release", "deploy")
COMMIT_FOLDER = f"deployments/acme/notes/{COMMIT}"
WRITTEN = {
    "push": f"/{COMMIT_FOLDER}/{ARCH}/notes-large-1.1.0-r0.apk",
    "push --channel": f"/channels/stable/{ARCH}/APKINDEX.tar.gz",
    "release": f"/{COMMIT_FOLDER}/release.json",
    "deploy": "/packages.zip",
}
"""Of each command an object that it stores, one that it stores in parts, and one that it reads, or a list."""
IN_PARTS = {
    "push": f"/{COMMIT_FOLDER}/{ARCH}/notes-large-1.1.0-r0.apk",
    "push --channel": f"/channels/stable/{ARCH}/notes-large-1.1.0-r0.apk",
    "release": "/packages.zip",
    "deploy": "/packages.zip",
}
READ = {
    "push": "?list-type=2",
    "push --channel": f"/channels/stable/{ARCH}/APKINDEX.tar.gz",
    "release": f"/{COMMIT_FOLDER}/{ARCH}/notes-1.1.0-r0.apk",
    "deploy": f"/{COMMIT_FOLDER}/{ARCH}/notes-1.1.0-r0.apk",
}

DEFAULTS = Bucket.__init__.__kwdefaults__ or {}

Meant = Callable[[Request, str], bool]
"""Says whether a command's request is one that goes wrong."""
IsMeant = Callable[[Request], bool]
Hooks = dict[str, Any]
"""The proxy's."""


def stores(request: Request, command: str) -> bool:
    path, _, query = request.path.partition("?")
    return request.method == "PUT" and path.endswith(WRITTEN[command]) and "partNumber=2" not in query


def stores_second_part(request: Request, command: str) -> bool:
    path, _, query = request.path.partition("?")
    return path.endswith(IN_PARTS[command]) and "partNumber=2" in query


def reads(request: Request, command: str) -> bool:
    return request.method == "GET" and READ[command] in request.path


def shows_an_etag(request: Request, command: str) -> bool:
    """An object in parts is looked at when they are put together."""
    path, _, query = request.path.partition("?")
    if path.endswith(IN_PARTS[command]):
        return request.method == "HEAD"
    return request.method == "PUT" and "partNumber" not in query


def asks(_request: Request, _command: str) -> bool:
    return True


def right(_is_meant: IsMeant) -> Hooks:
    return {}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the requests that are meant, so many times; None: every time."""

    name: str
    meant: Meant
    hooks: Callable[[IsMeant], Hooks]
    times: int | None = None
    is_there: bool = True
    """Whether anybody answers."""
    hours: int = 0
    """That this machine's clock is behind."""


def reset(is_meant: IsMeant) -> Hooks:
    """Reset the connection in the middle of a request."""

    def begun(request: Request) -> None:
        if is_meant(request):
            raise ConnectionResetError

    return {"begun": begun}


def instead(answer: Answer) -> Callable[[IsMeant], Hooks]:
    """Answer without asking the server."""
    return lambda is_meant: {"before": lambda request: answer if is_meant(request) else None}


def changed(change: Callable[[Answer], Answer]) -> Callable[[IsMeant], Hooks]:
    """Change what the server has answered."""
    return lambda is_meant: {"after": lambda request, answer: change(answer) if is_meant(request) else answer}


def from_then_on(answer: Answer) -> Callable[[IsMeant], Hooks]:
    """Answer the request that is meant and all behind it without asking the server."""

    def hooks(is_meant: IsMeant) -> Hooks:
        begun: list[Request] = []

        def before(request: Request) -> Answer | None:
            if begun or is_meant(request):
                begun.append(request)
                return answer
            return None

        return {"before": before}

    return hooks


def half(answer: Answer, **more: Any) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2], promised=len(answer.body), **more)


def slow(answer: Answer) -> Answer:
    return replace(answer, drip=0.5 / max(1, len(answer.body)))


def with_header(name: str, value: str) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        kept = {each: said for each, said in answer.headers.items() if each.lower() != name.lower()}
        return replace(answer, headers={**kept, name: value})

    return change


RESET, CUT, HANGS = "the connection is reset in the middle of {}", "an answer breaks off", "the server hangs"
FAULTS = [
    Fault("nobody answers at the address", asks, right, is_there=False),
    Fault(RESET.format("a request"), stores, reset, 1),
    Fault(RESET.format("a request"), stores, reset),
    Fault(RESET.format("an answer"), reads, changed(lambda answer: half(answer, is_reset=True)), 1),
    Fault(RESET.format("an answer"), reads, changed(lambda answer: half(answer, is_reset=True))),
    Fault(CUT, reads, changed(half), 1),
    Fault(CUT, reads, changed(half)),
    Fault(HANGS, stores, instead(Answer(200, seconds=60)), 1),
    Fault(HANGS, stores, instead(Answer(200, seconds=60))),
    Fault("the server answers 500", stores, instead(s3_error(500, "InternalError")), 3),
    Fault("the server answers 500", stores, instead(s3_error(500, "InternalError"))),
    Fault("the server answers 503", stores, instead(s3_error(503, "SlowDown")), 3),
    Fault("the server answers 503", stores, instead(s3_error(503, "SlowDown"))),
    Fault("an answer trickles", reads, changed(slow)),
    Fault("the ETag is not that of the bytes", shows_an_etag, changed(with_header("ETag", f'"{"0" * 32}"'))),
    Fault("the clocks are too far apart", asks, right, hours=1),
    Fault("the server's Date is of another day", asks, changed(with_header("Date", formatdate(0, usegmt=True)))),
    Fault("the token expires", stores_second_part, from_then_on(s3_error(400, "ExpiredToken"))),
    Fault("the bucket is gone", stores, from_then_on(s3_error(404, "NoSuchBucket"))),
]


@pytest.fixture(scope="session")
def scenes(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(s3_server, "went-wrong", tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait before no second try as long as outside tests, and read boto3's descriptions of S3 once."""
    from botocore.retries.standard import ExponentialBackoff

    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _self, _context: 0.01)
    monkeypatch.setattr("botocore.session.create_loader", lambda _path: _described())


@functools.cache
def _described() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


def ran(scene: Scene, command: str, endpoint: str) -> tuple[int, str]:
    """Run the command once, one thing after the other, and return its exit code and the error that it ended with."""
    said = StringIO()
    with running_service() as service, pytest.MonkeyPatch.context() as patch:
        variables = {"PATH": os.environ["PATH"], **scene.server.env, **service.env, "AWS_ENDPOINT_URL": endpoint}
        for name in list(os.environ):
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        with redirect_stdout(said), redirect_stderr(said):
            code = cli.main([*scene.argv, "--concurrency=1"])
        assert len(service.known) == (command == "deploy" and code == 0)
    assert "Traceback" not in said.getvalue()
    before, _, error = said.getvalue().partition("pakman: error: ")
    assert "pakman: error" not in before
    return code, error


def behind(hours: int) -> Callable[..., datetime]:
    """Return what signs requests with another time."""
    from botocore.compat import get_current_datetime

    return lambda *words: get_current_datetime(*words) - timedelta(hours=hours)


@contextmanager
def nobody() -> Iterator[str]:
    """Yield an address that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def plain(error: str, scene: Scene, endpoint: str) -> str:
    """Return an error as it is on any machine, in a line of a table."""
    names = {ARCH: "x86_64", OTHER: "aarch64", endpoint: "https://s3.example.com"}
    names[str(scene.reader.store.location)] = "s3://packages"
    names[f"{scene.reader.store.location.prefix}/"] = ""
    text = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], error.strip())
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text).replace(COMMIT, "COMMIT")
    message, *hint = text.splitlines()
    assert len(hint) == 1, error
    return f"{message}. {hint[0].strip()}"


def title(fault: Fault) -> str:
    return f"{fault.name}{ {None: '', 1: ', once'}.get(fault.times, f', {fault.times} times') }"


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS, ids=title)
def test_what_goes_wrong_is_overcome_or_told_and_then_made_good(
    scenes: Scenes, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, command: str, fault: Fault
) -> None:
    scene = scenes[command]
    server = scene.server.endpoint
    if not scene.expected:
        assert ran(scene, command, server) == (0, "")
        scene.expected = scene.reader.listed()
    scene.restore()
    meant: list[Request] = []

    def is_meant(asked: Request) -> bool:
        if (fault.times is not None and len(meant) >= fault.times) or not fault.meant(asked, command):
            return False
        meant.append(asked)
        return True

    with ExitStack() as stack, monkeypatch.context() as patch:
        if fault.name == HANGS:
            patch.setattr(Bucket.__init__, "__kwdefaults__", {**DEFAULTS, "patience": Patience(read=1)})
        if fault.hours:
            patch.setattr("botocore.auth.get_current_datetime", behind(fault.hours))
        else:  # whose clock is right
            stack.enter_context(scene.reader.polling(0.1))
        hooks = fault.hooks(is_meant)
        endpoint = stack.enter_context(proxy(server, **hooks) if fault.is_there else nobody())
        code, error = ran(scene, command, endpoint)
    assert meant or not hooks
    scene.reader.look()
    said = plain(error, scene, endpoint) if code else ""

    with scene.reader.polling(0.1):
        assert ran(scene, command, server) == (0, "")
    assert scene.reader.listed() == scene.expected
    assert scene.reader.uploads() == []
    state = f"exit code 0, {len(scene.expected)} objects, no upload"
    row = f"| {title(fault)} | `{command}` | {code} | {said} | {state} |"
    assert_row(row, update=request.config.getoption("--update-golden"))


HEAD = """\
# What goes wrong on the way to the bucket

Each line is tried against a real S3 server, with a proxy in between that lets things go wrong. Whatever it was: no
index in the bucket ever names what is not there, and the same command run again comes to its end, leaves nothing
behind of the first, and the same objects as if nothing had gone wrong.

The same holds for a run that is killed at any of its requests, for several releases of a commit at once, and for
sixteen pushes into one channel at once, of which none is lost.

| what goes wrong | command | exit code | what is said | after the next run |
|---|---|---|---|---|
"""


def assert_row(row: str, *, update: bool) -> None:
    """Compare a row of the table, or write it anew."""
    key = row.rpartition("` |")[0]
    rows = TABLE.read_text().splitlines() if TABLE.exists() else []
    if update:
        order = [f"| {title(fault)} | `{command}" for fault in FAULTS for command in COMMANDS]
        known = {each.rpartition("` |")[0]: each for each in (*rows, row) if each.rpartition("` |")[0] in order}
        TABLE.write_text(HEAD + "".join(f"{known[each]}\n" for each in order if each in known))
    else:
        assert [each for each in rows if each.startswith(f"{key}` |")] == [row]


def test_the_table_has_nothing_else() -> None:
    assert TABLE.read_text().startswith(HEAD)
    assert len(TABLE.read_text().removeprefix(HEAD).splitlines()) == len(FAULTS) * len(COMMANDS)

"""`pakman validate --online` with mirrors that answer, refuse, lie and never end; and what apk makes of the words."""

from __future__ import annotations

import gzip
import json
import platform
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pakman import cli, download, indexes
from pakman.apk.index import Stanza, read_index, write_index, write_stanzas
from pakman.validation import packages
from tests.integration.conftest import AlpineRoot
from tests.packages import METADATA, key, pack

Capture = pytest.CaptureFixture[str]
ARCH = platform.machine()

MANIFEST = """\
stack: alpine/3.23
architectures: [x86_64]
dependencies:
  build: [nodejs, nodejss, nodejs>=99]
  runtime: ["cmd:node", curl, shop-data]
build:
  destinations: [dist]
"""


def stanza(name: str, version: str, provides: str = "") -> Stanza:
    return Stanza(f"C:Q1{'A' * 27}=\nP:{name}\nV:{version}\nA:x86_64\nS:1\nI:1\nT:x\nU:x\nL:x\n{provides}")


Answer = Callable[[BaseHTTPRequestHandler], None]


def sends(body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refuses(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def never_ends(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"\0" * (1 << 20))


def drips(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.is_over.wait(0.02):  # type: ignore[attr-defined]
        handler.wfile.write(b"\0")


def is_silent(handler: BaseHTTPRequestHandler) -> None:
    handler.server.is_over.wait(20)  # type: ignore[attr-defined]


@contextmanager
def mirror(answer: Answer, asked: list[str] | None = None) -> Iterator[str]:
    """Yield the address of a mirror that answers every request in one way."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if asked is not None:
                asked.append(self.path)
            answer(self)

    class Server(ThreadingHTTPServer):
        is_over = threading.Event()

        def handle_error(self, *_: object) -> None:
            """A client that goes away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        Server.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An index as pakman writes it."""
    path = tmp_path_factory.mktemp("index") / "APKINDEX.tar.gz"
    stanzas = [stanza("nodejs", "24.11.1-r0", "p:cmd:node=24.11.1-r0\n"), stanza("curl", "8-r0")]
    write_stanzas(path, stanzas, [key()], "")
    return path.read_bytes()


@pytest.fixture(autouse=True)
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manifest that the program runs in; no proxy stands between it and the mirrors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "instellar.yml").write_text(MANIFEST)
    return tmp_path


def only(*mirrors: str) -> None:
    """Let these be all that there are: pakman's own are not asked."""
    lines = [[f"{url}/main", f"{url}/community"] for url in mirrors]
    Path(".pakman.toml").write_text(f'[stacks."alpine/3.23"]\nrepositories = {json.dumps(lines)}\n')


def test_every_dependency_is_looked_up(index: bytes, capsys: Capture) -> None:
    asked: list[str] = []
    with mirror(sends(index), asked) as url:
        assert cli.main(["validate", "--online", "--mirror", url, "--format", "json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [(each["severity"], each["code"], each["path"], each["line"], each["column"]) for each in found] == [
        ("error", "unknown-package", "dependencies.build[1]", 4, 19),
        ("error", "unmet-version", "dependencies.build[2]", 4, 28),
        ("warning", "unknown-package", "dependencies.runtime[2]", 5, 31),
    ]
    assert "did you mean nodejs?" in found[0]["hint"]
    assert captured.err == ""
    assert asked == [f"/v3.23/{name}/x86_64/APKINDEX.tar.gz" for name in ("main", "community")]


def test_a_dependency_that_is_there_leaves_the_manifest_valid(index: bytes, capsys: Capture) -> None:
    Path("instellar.yml").write_text(MANIFEST.replace(", nodejss, nodejs>=99", "").replace(", shop-data", ""))
    # As servers name it that go by the end of a file's name.
    with mirror(sends(index, Content_Encoding="gzip")) as url:
        assert cli.main(["validate", "--online", "--mirror", url]) == 0
    assert capsys.readouterr().out == "instellar.yml is valid: no errors, no warnings\n"


def test_annotations_name_the_line(index: bytes, capsys: Capture) -> None:
    with mirror(sends(index)) as url:
        assert cli.main(["validate", "--online", "--mirror", url, "--format", "github"]) == 3
    assert "::error file=instellar.yml,line=4,col=19," in capsys.readouterr().out


@pytest.mark.parametrize("name", ["deb", "other"])
def test_what_others_call_it_is_said_once(index: bytes, name: str, capsys: Capture) -> None:
    words = {"deb": "build-essential", "other": "nodejs"}
    Path("instellar.yml").write_text(MANIFEST.replace("nodejs, nodejss, nodejs>=99", words[name]))
    with mirror(sends(index)) as url:
        cli.main(["validate", "--online", "--mirror", url, "--format", "json"])
    codes = [each["code"] for each in json.loads(capsys.readouterr().out)]
    assert codes == (["unknown-package"] * 2 if name == "deb" else ["unknown-package"])


@pytest.mark.parametrize("architecture", ["noarch", "all"])
def test_a_package_for_all_architectures_is_looked_up_for_this_one(
    index: bytes, architecture: str, capsys: Capture
) -> None:
    Path("instellar.yml").write_text(MANIFEST.replace("x86_64", architecture))
    asked: list[str] = []
    with mirror(sends(index), asked) as url:
        assert cli.main(["validate", "--online", "--mirror", url]) == 3
    assert asked == [f"/v3.23/{name}/{ARCH}/APKINDEX.tar.gz" for name in ("main", "community")]


def test_what_is_no_dependency_word_is_not_looked_up(index: bytes, capsys: Capture) -> None:
    Path("instellar.yml").write_text(MANIFEST.replace("nodejss, nodejs>=99", "nodejss ^1"))
    with mirror(sends(index)) as url:
        assert cli.main(["validate", "--online", "--mirror", url, "--format", "json"]) == 3
    found = [each["code"] for each in json.loads(capsys.readouterr().out) if each["path"] == "dependencies.build[1]"]
    assert found == ["bad-dependency"]


NOT_AN_INDEX = [
    (refuses, "cannot be reached (the server answers 404)"),
    (sends(b"<html>Welcome to our Wi-Fi</html>"), "is not an index of apk's v2 format: it is not gzip, or damaged"),
    (sends(gzip.compress(b"")), "is not an index of apk's v2 format: it holds no APKINDEX"),
    (sends(b"\x1f\x8b\x08", Content_Length="900"), "(the answer breaks off)"),
    (never_ends, "is larger than 32 MiB"),
    (drips, "does not come to an end within 0.5 seconds"),
    (is_silent, "(no answer within 0.5 seconds)"),
    (None, "cannot be reached (no connection)"),
]


@pytest.mark.parametrize(
    ("answer", "reason"),
    NOT_AN_INDEX,
    ids=["404", "garbage", "empty", "cut", "endless", "dripping", "silent", "closed"],
)
def test_a_mirror_that_does_not_serve_is_a_warning_and_the_next_is_asked(
    index: bytes, answer: Answer | None, reason: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_SILENCE", 0.5)
    monkeypatch.setattr(indexes, "_PATIENCE", 0.5)
    with mirror(answer or refuses) as closed:
        pass
    with mirror(answer or refuses) as bad, mirror(sends(index)) as good:
        first = bad if answer is not None else closed
        only(first, good)
        assert cli.main(["validate", "--online"]) == 3
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"warning: {first}/main/x86_64/APKINDEX.tar.gz ")
    assert reason in captured.err
    assert captured.err.endswith(": the next in order is asked\n")
    assert "2 errors, 1 warning" in captured.out


def test_without_any_mirror_what_was_tried_is_said_behind_what_is_known(capsys: Capture) -> None:
    Path("instellar.yml").write_text(MANIFEST + "licence: MIT\n")
    with mirror(refuses) as first, mirror(sends(b"no")) as second:
        only(first, second)
        assert cli.main(["validate", "--online", "--format", "json"]) == 2
    captured = capsys.readouterr()
    assert [each["code"] for each in json.loads(captured.out)] == ["unknown-key"]
    assert "pakman: error: the dependencies cannot be looked up: none of the repositories serve: " in captured.err
    assert f"{first}/main/x86_64" in captured.err
    assert f"{second}/main/x86_64" in captured.err
    assert "--mirror" in captured.err


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("build: {destinations: [a]}\nstack: alpine/3.23\n", 0),
        ("stack: 'x'\ndependencies: {build: [a]}\n", 3),
        ("- a", 3),
    ],
    ids=["nothing-needed", "no-such-stack", "no-mapping"],
)
def test_nobody_is_asked_where_there_is_nothing_to_ask(content: str, code: int, capsys: Capture) -> None:
    asked: list[str] = []
    with mirror(refuses, asked) as url:
        Path("instellar.yml").write_text(content)
        assert cli.main(["validate", "--online", "--mirror", url]) == code
        assert cli.main(["validate", "--mirror", url]) == code
    assert capsys.readouterr().err == ""
    assert asked == []


WORDS = [
    "one", "two", "one=1.2.3-r4", "one=1.2.3", "one>=1.2.3", "one>1.2.3", "one<1.2.3", "one<=1.2.3", "one<1.3", "one~1",
    "one~1.2", "one~1.2.3", "one~1.2.3-r4", "one~1.2.3-r5", "one~1.20", "one~2", "one>~1.2", "one>~1.3", "one<~1.2",
    "one<~1.1", "cmd:one", "cmd:one=7", "cmd:one>7", "cmd:two", "plain", "plain=1", "plain>0", "plain~1", "/bin/one",
    "so:libone.so.1", "so:libone.so.1>=1", "one>=1.2.3_rc1", "one>1.2.3-r3", "one>1.2.3-r4",
]  # fmt: skip


@pytest.mark.alpine
def test_apk_is_of_the_same_opinion(alpine_root: AlpineRoot, tmp_path: Path) -> None:
    directory = alpine_root.path / "srv/repository" / ARCH
    directory.mkdir(parents=True)
    (alpine_root.path / "etc/apk/keys" / key().name).write_bytes(key().public_pem)
    (tmp_path / "tree").mkdir()
    provides = ("cmd:one=7", "plain", "/bin/one", "so:libone.so.1=1.0")
    metadata = replace(METADATA, pkgname="one", origin="one", arch=ARCH, provides=provides)
    package = pack(directory / "one-1.2.3-r4.apk", tmp_path / "tree", metadata=metadata)
    write_index(directory / "APKINDEX.tar.gz", [package.path], [key()], "")
    # Beside its provider: of what is provided without a version, apk does not choose one by itself.
    script = f"for word in {shlex.join(WORDS)}; do apk add --simulate --repositories-file "
    script += '/dev/null --repository /srv/repository -- one "$word" >/dev/null 2>&1 && echo "$word"; done; true'
    versions: packages.Versions = {}
    packages.add(versions, read_index(directory / "APKINDEX.tar.gz").stanzas)
    ours = [word for word in WORDS if packages.answers(versions, word)]
    assert ours == alpine_root.sh(script).split()

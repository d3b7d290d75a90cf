"""Where a service's environment comes from: every source, and everything that can be wrong with one."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socketserver
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pakman.manifest import Manifest, Run, Service
from tests.integration.conftest import AlpineRoot
from tests.services import install, small_copy

pytestmark = pytest.mark.alpine

NAME = "shop"
MANIFEST = Manifest(run=Run(name=NAME, services=(Service("web", "sleep", path="/bin", call="1000"),)))
COPY = f"var/lib/pakman/{NAME}/environment"

TOKEN = "bot-token-0123"
ENDPOINT = "user.INSTELLAR_INSTALLATION_ENDPOINT"
DATA = "user.INSTELLAR_INSTALLATION_DATA"


def document(variables: object) -> bytes:
    """What the deployment service answers with."""
    return json.dumps({"data": {"type": "installations", "attributes": {"variables": variables}}}).encode()


def coded(variables: object) -> str:
    return base64.b64encode(document(variables)).decode()


@dataclass
class Answers:
    """What a server says to each path, and what it was asked."""

    bodies: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


def _handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "-"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            pass

        def do_GET(self) -> None:
            answers.asked.append((self.path, self.headers.get("Authorization", "")))
            if self.path in answers.hanging:
                answers.released.wait(30)
                return
            status, body = answers.bodies.get(self.path, (404, b"not found"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

    return Handler


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def serving(server: socketserver.BaseServer, answers: Answers) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        answers.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Instance:
    """A root with the service's files, a socket that plays LXD or Incus, and a deployment service."""

    root: AlpineRoot
    settings: Answers
    service: Answers
    url: str

    def configure(self, **settings: str) -> None:
        for key, value in settings.items():
            self.settings.bodies[f"/1.0/config/user.{key}"] = (200, value.encode())

    def run(
        self, script: str, *, socket: str | None = "/dev/lxd/sock", env: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        """Run a script in the root, with LXD's or Incus' socket there, or neither."""
        link = f"mkdir {Path(socket).parent}; ln -s /srv/sock {socket}\n" if socket else ""
        done = self.root.run("/bin/sh", "-c", link + script, env=dict(env or {}), timeout=60)
        return done.returncode, done.stdout, done.stderr.decode()

    def environment(
        self, *, socket: str | None = "/dev/lxd/sock", env: Mapping[str, str] | None = None
    ) -> tuple[dict[str, bytes], str]:
        """Source the environment and return what it exported, and what it said on stderr."""
        status, out, said = self.run(
            f". /var/lib/{NAME}/bin/environment || exit; env -0", socket=socket, env={"HOSTNAME": "h", **(env or {})}
        )
        assert status == 0, said
        pairs = (pair.partition(b"=") for pair in out.split(b"\0") if pair)
        known = {"PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "HOSTNAME", "_", *(env or {})}
        return {key.decode(): value for key, _, value in pairs if key.decode() not in known}, said


@pytest.fixture(scope="module")
def installed(alpine_pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlpineRoot]:
    root = small_copy(alpine_pristine, tmp_path_factory.mktemp("environment") / "alpine")
    install(root, MANIFEST, NAME)
    yield root
    shutil.rmtree(root.path)


@pytest.fixture
def instance(installed: AlpineRoot) -> Iterator[Instance]:
    settings, service = Answers(), Answers()
    folder = os.open(installed.path / "srv", os.O_RDONLY)
    # The path of a socket is at most 107 bytes long, and pytest's directories are deep.
    unix = _UnixServer(f"/proc/self/fd/{folder}/sock", _handler(settings))
    (installed.path / "srv/sock").chmod(0o666)
    tcp = _HTTPServer(("127.0.0.1", 0), _handler(service))
    try:
        with serving(unix, settings), serving(tcp, service):
            yield Instance(installed, settings, service, f"http://127.0.0.1:{tcp.server_port}")
    finally:
        os.close(folder)
        (installed.path / "srv/sock").unlink()
        (installed.path / f"etc/conf.d/{NAME}").unlink(missing_ok=True)
        for kept in (f"etc/{NAME}", "var/lib/pakman"):
            shutil.rmtree(installed.path / kept, ignore_errors=True)


def from_service(instance: Instance, body: bytes = document({"A": "service"}), status: int = 200) -> None:
    instance.configure(INSTELLAR_INSTALLATION_ENDPOINT=f"{instance.url}/variables", INSTELLAR_BOT_TOKEN=TOKEN)
    instance.service.bodies["/variables"] = (status, body)


def keep_a_copy(instance: Instance) -> None:
    path = instance.root.path / COPY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document({"A": "copy"}))


def test_the_first_source_that_answers_is_taken(instance: Instance) -> None:
    root = instance.root.path
    # Nothing is configured anywhere: a service without variables.
    assert instance.environment() == ({}, "")
    assert instance.environment(socket=None) == ({}, "")

    (root / f"etc/{NAME}").mkdir()
    (root / f"etc/{NAME}/env").write_text("A=plain\nB=plain\n")
    plain = {"A": b"plain", "B": b" conf.d 2", "y": b"z", "D": b"two\nlines"}
    (root / f"etc/conf.d/{NAME}").write_text('B="$RC_SVCNAME conf.d $((1 + 1))"\ny=z\nexport D="two\nlines"\n')
    assert instance.environment() == (plain, "")
    assert instance.environment(socket=None) == (plain, "")

    instance.configure(INSTELLAR_INSTALLATION_DATA=coded({"A": "data"}))
    assert instance.environment() == ({"A": b"data"}, "")
    assert instance.environment(socket="/dev/incus/sock") == ({"A": b"data"}, "")

    from_service(instance)
    assert instance.environment() == ({"A": b"service"}, "")
    assert ("/variables", f"Bearer {TOKEN}") in instance.service.asked

    instance.configure(managed_by="uplink", install_variables_endpoint=f"{instance.url}/uplink")
    instance.service.bodies["/uplink"] = (200, document({"A": "uplink"}))
    instance.service.asked.clear()
    assert instance.environment() == ({"A": b"uplink"}, "")
    assert instance.service.asked == [("/uplink", "")]

    # The container lost its socket, or nobody answers there: what was good last time goes on.
    variables, said = instance.environment(socket=None)
    assert variables == {"A": b"uplink"}
    assert "last good copy" in said


FAULTS = {
    "404": (404, b"not found", "HTTP status 404"),
    "500": (500, document({"A": "wrong"}), "HTTP status 500"),
    "redirect": (302, document({"A": "wrong"}), "HTTP status 302"),
    "garbage": (200, b"<html>it is not my day</html>", "not JSON"),
    "cut": (200, document({"A": "wrong"})[:-3], "not JSON"),
    "a word too much": (200, document({"A": "wrong"}) + b" x", "not JSON"),
    "a quote too much": (200, document({"A": "wrong"}) + b'"', "not JSON"),
    "a comma too much": (200, b'{"data":{"attributes":{"variables":{"A":"wrong",}}}}', "not JSON"),
    "a line break in a string": (200, b'{"data":{"attributes":{"variables":{"A":"wr\nong"}}}}', "not JSON"),
    "a tab in a string": (200, b'{"data":{"attributes":{"variables":{"A":"wr\tong"}}}}', "not JSON"),
    "an unknown escape": (200, b'{"data":{"attributes":{"variables":{"A":"wr\\x6fng"}}}}', "not JSON"),
    "a byte 0": (200, b'{"data":{"attributes":{"variables":{"A":"wr\0ong"}}}}', "not text"),
    "another document": (200, b'{"errors":[{"detail":"A"}]}', "without .data.attributes.variables"),
    "no variables": (200, document(None), "without .data.attributes.variables"),
    "variables in a list": (200, b'[{"data":{"attributes":{"variables":{"A":"wrong"}}}}]', "without .data"),
    "empty": (200, b"", "not JSON"),
    "nested": (200, b"[" * 100_000, "nested too deep"),
    "huge": (200, document({"A": "x" * 10_000_000}), "too large"),
    "zeros": (200, b"\0" * 1_000_000, "not text"),
}


@pytest.mark.parametrize("copy", [True, False])
def test_a_deployment_service_in_trouble_is_not_believed(instance: Instance, *, copy: bool) -> None:
    if copy:
        keep_a_copy(instance)
    for case, (status, body, complaint) in FAULTS.items():
        from_service(instance, body, status)
        ended, out, said = instance.run(f". /var/lib/{NAME}/bin/environment; status=$?; echo A=$A; exit $status")
        assert (ended, out) == ((0, b"A=copy\n") if copy else (1, b"A=\n")), (case, ended, out[:200], said)
        assert complaint in said, (case, said)
        assert ENDPOINT in said, (case, said)
        assert "wrong" not in said, (case, said)
        assert TOKEN not in said, (case, said)
        assert ("last good copy" in said) == copy, (case, said)
    # A source further down that answers is taken, and the trouble still said.
    instance.configure(INSTELLAR_INSTALLATION_DATA=coded({"A": "data"}))
    variables, said = instance.environment()
    assert variables == {"A": b"data"}
    assert ENDPOINT in said


ANSWERS = {
    "404": (404, b"not found"),
    "500": (500, document({"A": "wrong"})),
    "garbage": (200, b"<html>wrong</html>"),
    "empty": (200, b""),
    "10 MB": (200, b"wrong" * 2_000_000),
}
"""What is no answer, from whatever source."""

SOURCES = {
    "uplink": "user.install_variables_endpoint",
    "service": ENDPOINT,
    "data": DATA,
    "socket": "user.managed_by",
}
"""Who gives that answer, and by which key of the container's configuration it is told in messages."""

FALLBACKS = {"copy": "A=copy\n", "plain": "A=plain\n", "nothing": "A=\n"}
"""What is there besides, and what becomes of A."""


def answer(instance: Instance, source: str, status: int, body: bytes) -> None:
    """Let a source say so; those before it are not configured, those after it neither."""
    instance.settings.bodies.clear()
    match source:
        case "uplink":
            instance.configure(managed_by="uplink", install_variables_endpoint=f"{instance.url}/variables")
            instance.service.bodies["/variables"] = (status, body)
        case "service":
            from_service(instance, body, status)
        case _:
            instance.settings.bodies[f"/1.0/config/{SOURCES[source]}"] = (status, body)


@pytest.mark.parametrize("socket", ["/dev/lxd/sock", "/dev/incus/sock"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_and_every_fault(instance: Instance, source: str, socket: str) -> None:
    plain = instance.root.path / f"etc/{NAME}/env"
    plain.parent.mkdir()
    for fallback, expected in FALLBACKS.items():
        plain.unlink(missing_ok=True)
        shutil.rmtree(instance.root.path / "var/lib/pakman", ignore_errors=True)
        if fallback == "copy":
            keep_a_copy(instance)
        elif fallback == "plain":
            plain.write_text("A=plain\n")
        for fault, (status, body) in ANSWERS.items():
            case = (source, fault, fallback)
            answer(instance, source, status, body)
            # A key that is not there is no trouble, and who else but `uplink` manages it is none either.
            is_fine = (source in {"data", "socket"} and fault == "404") or (
                source == "socket" and fault in {"garbage", "empty"}
            )
            ended, out, said = instance.run(
                f". /var/lib/{NAME}/bin/environment; status=$?; echo A=$A; exit $status", socket=socket
            )
            assert (ended, out.decode()) == (0 if is_fine or fallback != "nothing" else 1, expected), (case, said)
            assert (SOURCES[source] in said) == (not is_fine), (case, said)
            assert ("last good copy" in said) == (fallback == "copy"), (case, said)
            assert ("no source has answered" in said) == (ended == 1), (case, said)
            assert "wrong" not in said, (case, said)


def test_data_that_is_none_is_not_believed(instance: Instance) -> None:
    for data in ("%%%", base64.b64encode(b"garbage").decode(), ""):
        instance.configure(INSTELLAR_INSTALLATION_DATA=data)
        status, _, said = instance.run(f". /var/lib/{NAME}/bin/environment")
        assert status == 1
        assert f"{DATA}: not JSON" in said
        assert "no source has answered" in said


def test_an_address_that_is_none_is_not_asked(instance: Instance) -> None:
    from_service(instance)
    for url in (
        "file:///etc/passwd",
        "-o/tmp/x",
        "",
        f'{instance.url}/"\nheader = "X: y',
        "http://127.0.0.1:1/",
        "http://",
    ):
        instance.configure(INSTELLAR_INSTALLATION_ENDPOINT=url)
        status, _, said = instance.run(f". /var/lib/{NAME}/bin/environment")
        assert (status, instance.service.asked) == (1, [])
        assert ENDPOINT in said


def test_a_token_cannot_become_another_header_or_option(instance: Instance) -> None:
    from_service(instance)
    for token in ('a"\nurl = "file:///etc/passwd', "a b", "a\r\nX: y"):
        instance.configure(INSTELLAR_BOT_TOKEN=token)
        status, _, said = instance.run(f". /var/lib/{NAME}/bin/environment")
        assert (status, instance.service.asked) == (1, [])
        assert token not in said


def test_no_configuration_of_curl_is_read(instance: Instance) -> None:
    from_service(instance)
    (instance.root.path / "tmp/.curlrc").write_text('output = "/tmp/owned"\n')
    assert instance.environment(env={"CURL_HOME": "/tmp"}) == ({"A": b"service"}, "")
    assert not (instance.root.path / "tmp/owned").exists()


def test_uplink_without_an_address_is_said(instance: Instance) -> None:
    instance.configure(managed_by="uplink")
    status, _, said = instance.run(f". /var/lib/{NAME}/bin/environment")
    assert status == 1
    assert "user.install_variables_endpoint is not set" in said


def test_nobody_is_waited_for_longer_than_seconds(instance: Instance) -> None:
    keep_a_copy(instance)
    from_service(instance)
    for answers, path, most in (
        (instance.service, "/variables", 14),
        (instance.settings, "/1.0/config/user.managed_by", 7),
    ):
        answers.hanging = {path}
        before = time.monotonic()
        variables, said = instance.environment()
        assert variables == {"A": b"copy"}
        assert "no answer in time" in said
        assert time.monotonic() - before < most


NASTY: dict[str, str] = {
    "QUOTES": """it's "quoted" 'twice' `touch /tmp/owned` $(touch /tmp/owned) $HOME ${HOME}""",
    "LINES": "first\nsecond\n\n\n",
    "TRAILING": "\n",
    "BACKSLASHES": "\\ \\\\ \\n \\u0041 \\' c:\\temp\\",
    "CONTROLS": "".join(map(chr, range(1, 32))) + "\x7f",
    "WORLD": "Grüße, мир, 世界, 👋🏽, \u2028",
    "EMPTY": "",
    "BLANKS": "  a  \t b ",
    "EQUALS": "a=b==c=",
    "GLOB": "* ? [a-z] ~ # !",
    "JSON": '{"a":["b","\\""]}',
    "PEM": "-----BEGIN KEY-----\n" + "\n".join(["QUJD" * 16] * 60) + "\n-----END KEY-----\n",
    "NUMBER_LIKE": "007",
    "EXPONENT": "1e3",
    "_under": "x",
    "LONG": "0123456789" * 13_000,
    "ESCAPES": "é" * 20_000,
}


def test_values_arrive_byte_by_byte(instance: Instance) -> None:
    expected = {key: value.encode() for key, value in NASTY.items()}
    for ascii_only in (True, False):
        body = json.dumps({"data": {"attributes": {"variables": NASTY}}}, ensure_ascii=ascii_only, indent=2)
        from_service(instance, body.encode())
        for env in ({}, {"LC_ALL": "C.UTF-8"}):
            assert instance.environment(env=env) == (expected, "")
    # And once more from the copy.
    assert instance.environment(socket=None)[0] == expected
    assert not (instance.root.path / "tmp/owned").exists()


def test_what_is_no_string_is_taken_as_its_text(instance: Instance) -> None:
    body = (
        b'{"data":{"id":{"attributes":{"variables":{"X":"1"}}},"attributes":{"name":"variables",'
        b'"variables":{"I":3000,"F":-1.50e+3,"T":true,"N":null,"L":[1, "a b", {"c": []}],"O":{},'
        b'"R":"first","R":"second","\\u0053":"\\u0041\\ud83d\\ude00\\/"},"more":{"variables":{"Y":"2"}}}},'
        b'"variables":{"Z":"3"}}\n'
    )
    from_service(instance, body)
    variables, said = instance.environment()
    assert variables == {
        "I": b"3000",
        "F": b"-1.50e+3",
        "T": b"true",
        "L": b'[1,"a b",{"c":[]}]',
        "O": b"{}",
        "R": b"second",
        "S": "A😀/".encode(),
    }
    assert '"N" is null: not set' in said
    from_service(
        instance, b'{"data":{"attributes":{"variables":{"A":"1"}}},"data":{"attributes":{"variables":{"B":"2"}}}}'
    )
    assert instance.environment() == ({"B": b"2"}, "")


def test_keys_that_no_application_may_set_are_named_and_skipped(instance: Instance) -> None:
    refused = ["LD_PRELOAD", "PATH", "IFS", "BASH_ENV", "ENV", "SHELLOPTS", "PS4", "UID", "OPTIND", "HOME", "USER"]
    no_names = [
        "",
        "1A",
        "A B",
        "A-B",
        "A;touch /tmp/owned",
        "A\nB",
        "É",
        "$(touch /tmp/owned)",
        "A=",
        "A\n",
        "\x1b[2J",
    ]
    values = dict.fromkeys((*refused, *no_names), "secret")
    from_service(instance, document({**values, "GOOD": "1", "ZERO": "a\0b", "HALF": "\ud800", "LONG": "x" * 131_072}))
    for shell in ("sh", "sh -eu"):
        status, out, said = instance.run(f"{shell} -c '. /var/lib/{NAME}/bin/environment; env -0'")
        assert status == 0
        exported = dict(pair.split(b"=", 1) for pair in out.split(b"\0") if pair)
        assert exported[b"GOOD"] == b"1"
        assert b"secret" not in out
        assert not {b"ZERO", b"HALF", b"LONG", b"LD_PRELOAD"} & set(exported)
        for key in refused:
            assert f"{key} is not for the application to set: skipped" in said
        assert said.count("is no name for a variable: skipped") == len(no_names)
        assert said.count("holds a character that no variable can hold") == 2
        assert "LONG is longer than Linux lets a variable be" in said
        assert "secret" not in said
        assert "\x1b" not in said
    assert not (instance.root.path / "tmp/owned").exists()


def test_the_plain_file_is_lines_and_never_shell(instance: Instance) -> None:
    path = instance.root.path / f"etc/{NAME}/env"
    path.parent.mkdir()
    path.write_bytes(
        b'# a comment\n\n  # another\nA=$(touch /tmp/owned) `touch /tmp/owned` "x" # no comment\nB="in quotes"\n'
        b"C='it's'\nD=\nE= blanks \nF=a=b\nno variable\nexport G=1\nPATH=/tmp\nH=\"\nI=\xff\xfe\nJ=last line"
    )
    variables, said = instance.environment(socket=None)
    assert variables == {
        "A": b'$(touch /tmp/owned) `touch /tmp/owned` "x" # no comment',
        "B": b"in quotes",
        "C": b"it's",
        "D": b"",
        "E": b" blanks ",
        "F": b"a=b",
        "H": b'"',
        "I": b"\xff\xfe",
        "J": b"last line",
    }
    assert "line 10 is not KEY=VALUE" in said
    assert '"export?G" is no name' in said
    assert "PATH is not for the application" in said
    assert not (instance.root.path / "tmp/owned").exists()


def test_sourcing_leaves_nothing_else_behind(instance: Instance) -> None:
    from_service(instance, document({"A": "1"}))
    script = f"""
        set -eu; set -- one two; IFS=:; trap 'echo trapped' EXIT; cd /tmp
        seen() {{ set; set -o; trap; pwd; umask; echo "$*"; }}
        unset A; HOSTNAME=h; export HOSTNAME; seen >/tmp/before; seen >/tmp/before
        . /var/lib/{NAME}/bin/environment
        unset A; seen >/tmp/after
        diff /tmp/before /tmp/after
    """
    assert instance.run(script) == (0, b"trapped\n", "")
    # A failure is a status, not the end of the shell.
    from_service(instance, b"garbage")
    (instance.root.path / COPY).unlink()
    status, out, _ = instance.run(f"set -eu; . /var/lib/{NAME}/bin/environment || echo status $?; echo alive")
    assert (status, out) == (0, b"status 1\nalive\n")


def test_the_last_good_copy_is_for_root_alone(instance: Instance) -> None:
    from_service(instance)
    assert instance.environment()[0] == {"A": b"service"}
    copy = instance.root.path / COPY
    assert (copy.stat().st_mode & 0o7777, copy.parent.stat().st_mode & 0o7777) == (0o600, 0o700)
    assert copy.stat().st_uid == 0
    assert [path.name for path in copy.parent.iterdir()] == ["environment"]

    from_service(instance, b"", 500)
    as_user = f"busybox su -s /bin/sh -c '. /var/lib/{NAME}/bin/environment; status=$?; echo A=$A; exit $status' {NAME}"
    status, out, said = instance.run(as_user)
    assert (status, out) == (1, b"A=\n")
    assert "only root can read the last good copy" in said

    # In a directory of somebody else nothing is believed, and nothing kept.
    instance.root.sh(f"chown {NAME} /var/lib/pakman")
    status, _, said = instance.run(f". /var/lib/{NAME}/bin/environment")
    assert status == 1
    from_service(instance)
    variables, said = instance.environment()
    assert variables == {"A": b"service"}
    assert "cannot be kept" in said


def test_no_secret_is_ever_in_an_argument_list(instance: Instance) -> None:
    from_service(instance, document({"A": "value-of-a"}))
    instance.service.hanging = {"/variables"}
    watch = f"""
        (. /var/lib/{NAME}/bin/environment) 2>/dev/null &
        for i in $(seq 30); do cat /proc/[0-9]*/cmdline | tr '\\0' ' '; busybox usleep 50000; done
        kill $!
    """
    _, out, _ = instance.run(watch)
    assert b"curl" in out
    assert TOKEN.encode() not in out
    assert b"/variables " not in out.replace(f"/usr/libexec/{NAME}/variables ".encode(), b"")


def test_without_curl_the_plain_file_still_serves(instance: Instance) -> None:
    from_service(instance)
    (instance.root.path / f"etc/{NAME}").mkdir()
    (instance.root.path / f"etc/{NAME}/env").write_text("A=plain\n")
    curl = instance.root.path / "usr/bin/curl"
    aside = curl.rename(curl.with_name("not-curl"))
    try:
        variables, said = instance.environment()
    finally:
        aside.rename(curl)
    assert variables == {"A": b"plain"}
    assert "curl is not installed" in said

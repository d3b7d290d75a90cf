"""The real apk and its repositories: some that are dead, some that answer, one that answers never."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pakman import stack
from pakman.apk import index
from pakman.buildroots import apk_add
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError
from pakman.manifest import Dependencies
from pakman.repository import INDEX_FILE
from pakman.stack import ROOTS_OWN
from tests.building import Builds, manifest, private_cache
from tests.packages import key, named, pack
from tests.servers import free_ports

pytestmark = pytest.mark.alpine


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A set of repositories on this machine: `main` has nothing, `community` has the package tool."""
    (tmp_path / "tree/usr/share/tool").mkdir(parents=True)
    (tmp_path / "tree/usr/share/tool/file").write_text("it came\n")
    arch = os.uname().machine
    for part in ("main", "community"):
        (tmp_path / f"mirror/{part}/{arch}").mkdir(parents=True)
    directory = tmp_path / "mirror/community" / arch
    package = pack(directory / "tool-1-r0.apk", tmp_path / "tree", metadata=replace(named("tool", "1-r0"), arch=arch))
    index.write_index(directory / INDEX_FILE, [package.path], [key()], "tests")
    index.write_index(tmp_path / "mirror/main" / arch / INDEX_FILE, [], [key()], "tests")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield (f"{url}/main", f"{url}/community")
        server.shutdown()
        thread.join()


@pytest.fixture
def dead() -> tuple[str, ...]:
    """A set of repositories that nobody serves."""
    return (f"http://127.0.0.1:{free_ports(1)[0]}/main",)


def sandbox(tmp_path: Path, pristine: Path, warnings: list[str], *repositories: tuple[str, ...]) -> Sandbox:
    cache = private_cache(tmp_path / "cache", pristine)
    return Sandbox(None, cache, os.environ, repositories=repositories, on_warning=warnings.append)


def trusting(root: Sandbox) -> None:
    """Have the root trust the key of the tests' packages, and know no repository by itself."""
    (root.path / "etc/apk/keys" / key().name).write_bytes(key().public_pem)
    (root.path / "etc/apk/repositories").write_text("")


def test_a_dead_mirror_is_a_warning_where_another_serves(
    tmp_path: Path, alpine_pristine: Path, mirror: tuple[str, ...], dead: tuple[str, ...]
) -> None:
    warnings: list[str] = []
    lines: list[str] = []
    with sandbox(tmp_path, alpine_pristine, warnings, dead, ROOTS_OWN, mirror) as root:
        trusting(root)
        root.add_packages(["tool"], lines.append)
        assert (root.path / "usr/share/tool/file").read_text() == "it came\n"
        assert warnings == [f"{dead[0]} cannot be reached (Connection refused): the next in order is asked"]
        assert "Installing tool (1-r0)" in "".join(lines)
        # What is added next asks the one that served, at once.
        with pytest.raises(BuildError, match=r"no-such-package, which Alpine [\d.]+ does not have; asked: ") as caught:
            root.add_packages(["no-such-package"], lines.append)
        assert caught.value.message.endswith(f"asked: {', '.join(mirror)}")
        assert len(warnings) == 1
        # The root's own file is as it was.
        assert (root.path / "etc/apk/repositories").read_text() == ""


def test_none_that_serves_is_an_error_that_lists_them(
    tmp_path: Path, alpine_pristine: Path, dead: tuple[str, ...]
) -> None:
    warnings: list[str] = []
    nowhere = ("https://nowhere.invalid/alpine/main",)
    with sandbox(tmp_path, alpine_pristine, warnings, dead, nowhere) as root:
        trusting(root)
        with pytest.raises(BuildError) as caught:
            root.add_packages(["tool"], print)
    assert caught.value.message.startswith(
        "the build needs tool, which the Alpine root does not have, and none of the repositories serve: "
        f"{dead[0]} cannot be reached (Connection refused); {nowhere[0]} cannot be reached (DNS: "
    )
    assert "--mirror" in caught.value.hint
    assert [warning.split()[0] for warning in warnings] == [*dead]


def test_a_repository_under_a_tag(tmp_path: Path, alpine_pristine: Path, mirror: tuple[str, ...]) -> None:
    with sandbox(tmp_path, alpine_pristine, [], (mirror[0], f"@own {mirror[1]}")) as root:
        trusting(root)
        root.add_packages(["tool@own"], print)
        assert (root.path / "usr/share/tool/file").exists()


def test_one_that_never_answers_does_not_take_long(
    tmp_path: Path, alpine_pristine: Path, mirror: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apk_add, "_SILENCE", 1)
    warnings: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/main"
        with sandbox(tmp_path, alpine_pristine, warnings, (url,), mirror) as root:
            trusting(root)
            root.add_packages(["tool"], print)
            assert (root.path / "usr/share/tool/file").exists()
    assert [warning.split()[0] for warning in warnings] == [url]


def test_a_build_asks_its_stack_s_repositories_and_believes_no_key_but_alpine_s(
    tmp_path: Path, alpine_pristine: Path, mirror: tuple[str, ...], dead: tuple[str, ...]
) -> None:
    (tmp_path / "source").mkdir()
    builds = Builds(tmp_path / "source", private_cache(tmp_path / "cache", alpine_pristine), key())
    base = stack.find("3.23")
    assert base is not None
    wanted = manifest("touch app", dependencies=Dependencies(build=("tool",)))
    with pytest.raises(BuildError) as caught:
        builds.run(wanted, tmp_path / "out", stack=base._replace(repositories=(dead, mirror)))
    assert f"{mirror[0]} cannot be reached (UNTRUSTED signature)" in caught.value.message
    assert any(f"warning: {dead[0]} cannot be reached" in line for line in builds.lines)

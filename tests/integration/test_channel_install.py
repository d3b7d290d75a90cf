"""install.sh on a real Alpine: with its apk and its wget, under its own shell and under dash, from a real server."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pakman import install_script
from pakman.apk.index import write_index
from pakman.install_script import PublicKeyAt
from pakman.signing import SigningKey
from tests.packages import key, named, pack

pytestmark = pytest.mark.alpine

ARCH = platform.machine()
OWN = ("etc/apk", "lib/apk", "var", "tmp")
"""What a machine has of its own; all else is the pristine root, which nobody may write to."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALPINES = "http://127.0.0.1:9/alpine/v3.23/main\n"
"""Nobody answers there, as nobody may answer at one of the user's repositories."""


def _dash() -> list[str]:
    """Return how the Alpine root runs this machine's dash, which is at /mnt there: with the loader of its own libc."""
    named = subprocess.run(["ldd", "/bin/dash"], capture_output=True, check=True, text=True).stdout.split()
    loader, libc = (next(word for word in named if f"/{part}" in word) for part in ("ld-linux", "libc.so"))
    return [f"/mnt{os.path.realpath(loader)}", "--library-path", f"/mnt{Path(libc).parent}", "/mnt/bin/dash"]


@pytest.fixture(params=["ash", "dash"])
def shell(request: pytest.FixtureRequest) -> str:
    """The words that run a script's text from stdin."""
    return shlex.join(["/bin/sh"] if request.param == "ash" else _dash())


@dataclass(frozen=True)
class Machine:
    """An Alpine machine that holds nothing of its own but /etc/apk, apk's database and /var: quickly made anew."""

    pristine: Path
    own: Path

    def __post_init__(self) -> None:
        shutil.copytree(self.pristine / "etc/apk", self.own / "etc/apk")
        shutil.copytree(self.pristine / "lib/apk", self.own / "lib/apk")
        shutil.copytree(self.pristine / "var", self.own / "var", symlinks=True)
        (self.own / "tmp").mkdir()
        self.repositories.write_text("")

    @property
    def repositories(self) -> Path:
        return self.own / "etc/apk/repositories"

    def run(self, script: str, *options: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "bwrap", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session",
                "--ro-bind", str(self.pristine), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run",
                "--ro-bind", "/", "/mnt",
                *(word for name in OWN for word in ("--bind", f"{self.own / name}", f"/{name}")),
                *options, "--", "/bin/sh", "-c", script,
            ],
            env={"PATH": PATH, "HOME": "/root", **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )  # fmt: skip

    def state(self) -> dict[str, tuple[int, bytes]]:
        """Return mode and content of each file below /etc/apk, and of what is left in /tmp."""
        files = [*(self.own / "etc/apk").rglob("*"), *(self.own / "tmp").rglob("*")]
        return {
            str(path.relative_to(self.own)): (path.stat().st_mode, path.read_bytes())
            for path in files
            if path.is_file()
        }

    @property
    def world(self) -> list[str]:
        return (self.own / "etc/apk/world").read_text().split()

    @property
    def packages(self) -> bytes:
        return (self.own / "lib/apk/db/installed").read_bytes()

    @property
    def installed(self) -> str | None:
        path = self.own / "var/lib/shop/version"
        return path.read_text() if path.exists() else None


@pytest.fixture
def machine(alpine_pristine: Path, tmp_path: Path) -> Machine:
    return Machine(alpine_pristine, tmp_path / "machine")


@dataclass
class Channel:
    """A channel on a real server, and what was asked for."""

    folder: Path
    url: str
    asked: list[str]
    answers: dict[str, int] = field(default_factory=dict)
    """What is answered to a path that ends so, instead of the file."""
    name: str = "stable"

    @property
    def repository_url(self) -> str:
        return f"{self.url}/channels/{self.name}"

    @property
    def folder_of_packages(self) -> Path:
        return self.folder / "channels" / self.name / ARCH

    def publish(
        self, version: str = "1.2.3-r4", scripts: dict[str, bytes] | None = None, depends: Sequence[str] = ()
    ) -> None:
        """Put a version of the package there, which depends on another one as every service's does, and the index."""
        for name, needs in (("shop", (f"shop-openrc={version}", *depends)), ("shop-openrc", ())):
            tree = self.folder.parent / f"{name}-{version}"
            (tree / "var/lib" / name).mkdir(parents=True, exist_ok=True)
            (tree / "var/lib" / name / "version").write_text(version)
            self.folder_of_packages.mkdir(parents=True, exist_ok=True)
            pack(
                self.folder_of_packages / f"{name}-{version}.apk",
                tree,
                metadata=replace(named(name, version), arch=ARCH, depends=needs),
                scripts=scripts if name == "shop" else None,
            )
        self.index(key())

    def index(self, *keys: SigningKey) -> None:
        """Sign an index of all that is there."""
        packages = self.folder_of_packages.glob("*.apk")
        write_index(self.folder_of_packages / "APKINDEX.tar.gz", packages, keys, "tests")

    def trust(self, *keys: SigningKey, **wrong: str) -> None:
        """Put public keys there, and the script that knows them."""
        known = []
        for each in keys or (key(),):
            (self.folder / "keys").mkdir(exist_ok=True)
            (self.folder / "keys" / each.name).write_bytes(each.public_pem)
            digest = hashlib.sha256(each.public_pem).hexdigest()
            known.append(replace(PublicKeyAt(each.name, f"{self.url}/keys/{each.name}", digest), **wrong))
        script = install_script.render(package="shop", keys=known, repository_url=self.repository_url)
        (self.folder / "channels" / self.name / "install.sh").write_bytes(script)

    def one_liner(self, shell: str) -> str:
        """Return what the README says."""
        return f"wget -qO- {shlex.quote(self.repository_url)}/install.sh | {shell}"


@contextmanager
def served(folder: Path, prefix: str = "") -> Iterator[Channel]:
    folder.mkdir()
    (folder / prefix).mkdir(exist_ok=True)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def send_head(self) -> Any:
            made.asked.append(self.path)
            for end, status in made.answers.items():
                if self.path.endswith(end):
                    self.send_error(status)
                    return None
            return super().send_head()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        made = Channel(folder / prefix, f"http://127.0.0.1:{server.server_port}/{prefix}".rstrip("/"), [])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    """A channel with one version."""
    with served(tmp_path / "www") as channel:
        channel.publish()
        channel.trust()
        yield channel


def test_the_one_liner_installs_and_again_upgrades(machine: Machine, channel: Channel, shell: str) -> None:
    machine.repositories.write_text(ALPINES)
    before = machine.state()
    done = machine.run(f"umask 077; {channel.one_liner(shell)}")
    assert done.returncode == 0, done.stderr
    assert machine.installed == "1.2.3-r4"
    added = {
        f"etc/apk/keys/{key().name}": (0o100644, key().public_pem),
        "etc/apk/repositories": (0o100644, f"{ALPINES}{channel.repository_url}\n".encode()),
        "etc/apk/world": (0o100644, before["etc/apk/world"][1].replace(b"sudo\n", b"shop\nsudo\n")),
    }
    assert machine.state() == before | added

    again = machine.run(channel.one_liner(shell))
    assert (again.returncode, machine.installed, machine.state()) == (0, "1.2.3-r4", before | added)

    channel.publish("1.2.10-r0")
    upgraded = machine.run(channel.one_liner(shell))
    assert (upgraded.returncode, machine.installed, machine.state()) == (0, "1.2.10-r0", before | added)
    assert "1.2.3-r4 -> 1.2.10-r0" in upgraded.stdout


def test_a_machine_changes_its_channel(machine: Machine, channel: Channel) -> None:
    other = replace(channel, name="edge")
    other.publish("1.1.0-r0")
    other.trust()
    assert machine.run(channel.one_liner("sh")).returncode == 0
    # As the README says it.
    assert machine.run("sed -i '\\,/channels/stable$,d' /etc/apk/repositories").returncode == 0
    assert machine.run(other.one_liner("sh")).returncode == 0
    assert machine.repositories.read_text() == f"{other.repository_url}\n"
    assert machine.installed == "1.2.3-r4"
    back = machine.run("apk upgrade -U -a shop")
    assert (back.returncode, machine.installed) == (0, "1.1.0-r0"), back.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{alpine}", "{alpine}{url}\n"),
        ("{alpine}/srv/mine", "{alpine}/srv/mine\n{url}\n"),
        ("#{url}\n", "#{url}\n{url}\n"),
        ("# {url}", "# {url}\n{url}\n"),
        ("{url}/more\n/srv{url}\n", "{url}/more\n/srv{url}\n{url}\n"),
        ("{url}\n{alpine}", "{url}\n{alpine}"),
        ("{alpine}{url}", "{alpine}{url}"),
        ("{url}/", "{url}/"),
        ("@shop {url}\n", "@shop {url}\n"),
        ("@shop\t{url}/\n{url}", "@shop\t{url}/\n{url}"),
        (None, "{url}\n"),
    ],
)
def test_the_repository_is_listed_once(machine: Machine, channel: Channel, before: str | None, after: str) -> None:
    values = {"alpine": ALPINES, "url": channel.repository_url}
    if before is None:
        machine.repositories.unlink()
    else:
        machine.repositories.write_text(before.format(**values))
    for version in ("1.2.3-r4", "1.2.4-r0"):
        channel.publish(version)
        done = machine.run(channel.one_liner("sh"))
        assert (done.returncode, machine.installed) == (0, version), done.stderr
        assert machine.repositories.read_text() == after.format(**values)
    assert machine.repositories.stat().st_mode & 0o777 == 0o644
    # A repository with a tag is asked for what is wanted from there, and stays out of everything else.
    assert ("shop@shop" if after.endswith("@shop {url}\n") else "shop") in machine.world


def test_what_is_no_alpine_is_refused(machine: Machine, channel: Channel, shell: str) -> None:
    before = machine.state()
    done = machine.run(channel.one_liner(shell), "--tmpfs", "/etc", "--bind", str(machine.own / "etc/apk"), "/etc/apk")
    assert_refused(done, "shop is a package for Alpine Linux, which this machine does not run")
    done = machine.run(channel.one_liner(shell), "--tmpfs", "/sbin")
    assert_refused(done, "shop is a package for Alpine Linux, which this machine does not run")
    assert machine.state() == before
    assert {path.rpartition("/")[2] for path in channel.asked} == {"install.sh"}


def test_another_system_is_refused(channel: Channel) -> None:
    """By the machine that the tests run on, whatever it is."""
    script = channel.folder / "channels/stable/install.sh"
    done = subprocess.run(["dash"], input=script.read_text(), capture_output=True, text=True, check=False)
    assert_refused(done, "shop is a package for Alpine Linux, which this machine does not run")


def test_who_is_not_root_is_refused(machine: Machine, channel: Channel, shell: str) -> None:
    done = machine.run(channel.one_liner(shell), "--unshare-user", "--uid", "1000")
    assert_refused(done, "only root can install shop: run this as root, for instance with 'doas sh' for 'sh'")


def another_architecture(machine: Machine, channel: Channel) -> str:
    (machine.own / "etc/apk/arch").write_text("riscv64\n")
    return f"{channel.repository_url} has nothing for this machine's architecture, riscv64: the server answers 404"


def another_architecture_where_nobody_may_list(machine: Machine, channel: Channel) -> str:
    channel.answers["/APKINDEX.tar.gz"] = 403
    (machine.own / "etc/apk/arch").unlink()
    return f"{channel.repository_url} has nothing for this machine's architecture, {ARCH}: the server answers 403"


def a_server_in_trouble(machine: Machine, channel: Channel) -> str:
    channel.answers["/APKINDEX.tar.gz"] = 503
    return f"{channel.repository_url} could not be read: the server answers 503"


def no_key(machine: Machine, channel: Channel) -> str:
    (channel.folder / "keys" / key().name).unlink()
    return f"the public key {channel.url}/keys/{key().name} could not be fetched: the server answers 404"


def no_server_for_the_key(machine: Machine, channel: Channel) -> str:
    channel.trust(url="http://127.0.0.1:9/x.rsa.pub")
    return (
        "the public key http://127.0.0.1:9/x.rsa.pub could not be fetched: can't connect to remote host (127.0.0.1): "
    )


def another_key_on_the_server(machine: Machine, channel: Channel) -> str:
    body = key("other.rsa.pub").public_pem
    (channel.folder / "keys" / key().name).write_bytes(body)
    actual, meant = (hashlib.sha256(each).hexdigest() for each in (body, key().public_pem))
    return f"{key().name} is not the one that is meant: its SHA-256 is {actual}, not {meant}"


def another_key_on_the_machine(machine: Machine, channel: Channel) -> str:
    (machine.own / "etc/apk/keys" / key().name).write_bytes(key("other.rsa.pub").public_pem)
    return f"/etc/apk/keys/{key().name} is another key already: what it trusts would be trusted no more."


def one_good_key_and_a_bad_one(machine: Machine, channel: Channel) -> str:
    other = key("other.rsa.pub")
    channel.trust(key(), other)
    (channel.folder / "keys" / other.name).write_bytes(b"")
    return f"{other.name} is not the one that is meant: its SHA-256 is {hashlib.sha256(b'').hexdigest()}, not "


@pytest.mark.parametrize(
    "trouble",
    [
        another_architecture, another_architecture_where_nobody_may_list, a_server_in_trouble, no_key,
        no_server_for_the_key, another_key_on_the_server, another_key_on_the_machine, one_good_key_and_a_bad_one,
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence_and_no_trace(
    machine: Machine, channel: Channel, shell: str, trouble: Callable[[Machine, Channel], str]
) -> None:
    sentence = trouble(machine, channel)
    before = machine.state()
    assert_refused(machine.run(channel.one_liner(shell)), sentence)
    assert machine.state() == before


def assert_refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    (said,) = done.stderr.splitlines()
    assert said.startswith("install.sh: ")
    assert sentence in said
    assert (done.returncode, done.stdout) == (1, "")


def no_index(channel: Channel) -> None:
    (channel.folder_of_packages / "APKINDEX.tar.gz").write_bytes(b"<html>")


def an_index_of_somebody_elses(channel: Channel) -> None:
    channel.index(key("other.rsa.pub"))


def no_package(channel: Channel) -> None:
    (channel.folder_of_packages / "shop-1.2.3-r4.apk").unlink()


def another_package(channel: Channel) -> None:
    path = channel.folder_of_packages / "shop-1.2.3-r4.apk"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def a_dependency_that_is_nowhere(channel: Channel) -> None:
    channel.publish(depends=["moon>1"])


def a_hook_that_fails(channel: Channel) -> None:
    channel.publish(scripts={".post-install": b"#!/bin/sh\nexit 3\n"})


@pytest.mark.parametrize(
    "trouble",
    [
        no_index,
        an_index_of_somebody_elses,
        no_package,
        another_package,
        a_dependency_that_is_nowhere,
        a_hook_that_fails,
    ],
)
@pytest.mark.parametrize("repositories", ["/srv/none", None])
def test_where_apk_fails_all_is_as_it_was(
    machine: Machine, channel: Channel, trouble: Callable[[Channel], None], repositories: str | None
) -> None:
    machine.repositories.unlink()
    if repositories is not None:
        machine.repositories.write_text(repositories)
        machine.repositories.chmod(0o640)
    trouble(channel)
    before, packages = machine.state(), machine.packages
    done = machine.run(channel.one_liner("sh"))
    assert done.returncode == (2 if trouble is a_dependency_that_is_nowhere else 1)
    assert ("ERROR: " in done.stderr) or f"install.sh: apk cannot use {channel.repository_url}\n" in done.stderr
    assert (machine.state(), machine.packages) == (before, packages)
    # And what the package depends on, or its name, is in the way of nothing else.
    assert machine.run("apk add --no-network").returncode == 0


def test_an_upgrade_that_fails_leaves_what_was_there(machine: Machine, channel: Channel) -> None:
    assert machine.run(channel.one_liner("sh")).returncode == 0
    before = machine.state()

    no_index(channel)
    unusable = machine.run(channel.one_liner("sh"))
    assert (unusable.returncode, machine.installed, machine.state()) == (1, "1.2.3-r4", before)
    assert unusable.stderr.endswith(f"install.sh: apk cannot use {channel.repository_url}\n")

    channel.publish("1.2.4-r0", scripts={".post-upgrade": b"#!/bin/sh\n[ -e /var/mended ]\n"})
    failed = machine.run(channel.one_liner("sh"))
    assert (failed.returncode, machine.installed, machine.state()) == (1, "1.2.4-r0", before)
    assert "run this again; or 'apk fix shop', where a script of the package failed\n" in failed.stderr
    assert machine.run(f"touch /var/mended; apk fix shop; {channel.one_liner('sh')}").returncode == 0


@pytest.mark.parametrize(
    ("wish", "version"), [("shop<1.2.4", "1.2.3-r9"), ("shop=1.2.3-r4", "1.2.3-r4"), ("shop", "1.2.4-r0")]
)
def test_what_the_user_wants_of_the_package_stays(machine: Machine, channel: Channel, wish: str, version: str) -> None:
    assert machine.run(f"{channel.one_liner('sh')} && apk add '{wish}'").returncode == 0
    world = machine.world
    assert wish in world
    channel.publish("1.2.3-r9")
    channel.publish("1.2.4-r0")
    assert machine.run(channel.one_liner("sh")).returncode == 0
    assert (machine.installed, machine.world) == (version, world)


def test_two_at_once_wait_for_each_other(machine: Machine, channel: Channel, shell: str) -> None:
    # The first to come fails, slowly; and its leaving is not the other's.
    slow = b"#!/bin/sh\n[ ! -e /var/first ] || exit 0\ntouch /var/first\nsleep 1\nexit 3\n"
    channel.publish(scripts={".post-install": slow})
    before = machine.state()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(machine.run, [channel.one_liner(shell)] * 2))
    assert sorted(each.returncode for each in done) == [0, 1]
    assert sum("install.sh: waiting for another install.sh\n" in each.stderr for each in done) == 1
    assert machine.installed == "1.2.3-r4"
    assert set(machine.state()) == {*before, f"etc/apk/keys/{key().name}"}
    assert machine.repositories.read_text() == f"{channel.repository_url}\n"


def test_nobody_waits_for_what_the_package_has_started(machine: Machine, channel: Channel, shell: str) -> None:
    channel.publish(scripts={".post-install": b"#!/bin/sh\nsleep 300 >/dev/null 2>&1 &\n"})
    done = machine.run(f"{channel.one_liner(shell)} && {channel.one_liner(shell)}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_download_that_was_cut_does_nothing(machine: Machine, channel: Channel, shell: str) -> None:
    script = (channel.folder / "channels/stable/install.sh").read_bytes()
    ends = [number for number, byte in enumerate(script) if byte == ord("\n")]
    cuts = sorted({*ends[:-1], *(end // 2 for end in ends), *range(len(script) - 30, len(script) - 1)})
    (machine.own / "var/install.sh").write_bytes(script)
    before = machine.state()
    words = " ".join(map(str, cuts))
    done = machine.run(f"for cut in {words}; do head -c $cut /var/install.sh | {shell} && : || echo $?; done")
    assert machine.state() == before
    assert channel.asked == []
    assert "install.sh: " not in done.stderr


def test_no_address_is_shell(machine: Machine, tmp_path: Path, shell: str) -> None:
    name = "a'b;touch$IFS$HOME&$(id)*~!@=,+"
    with served(tmp_path / "www", name) as channel:
        channel.publish()
        channel.trust()
        done = machine.run(channel.one_liner(shell))
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.repositories.read_text() == f"{channel.repository_url}\n"
    assert name in channel.repository_url


def test_two_keys_are_trusted_while_one_follows_the_other(machine: Machine, channel: Channel, shell: str) -> None:
    old, new = key(), key("acme-shop-2.rsa.pub")
    assert machine.run(channel.one_liner(shell)).returncode == 0
    channel.trust(new, old)
    channel.publish("1.2.4-r0")
    channel.index(new, old)
    assert machine.run(channel.one_liner(shell)).returncode == 0
    assert machine.installed == "1.2.4-r0"
    for each in (old, new):
        assert (machine.own / "etc/apk/keys" / each.name).read_bytes() == each.public_pem
    channel.trust(new)
    channel.index(new)
    assert machine.run(channel.one_liner(shell)).returncode == 0


STEP = """#!/bin/sh
name=${0##*/}
PATH=$REAL
"$name" "$@"
status=$?
echo "$name" >>/var/steps
[ "$(wc -l </var/steps)" -ne "$AT" ] || kill -"$SIGNAL" "$(cat /var/pid)"
exit $status
"""
"""A program of the script's, after the AT-th of which the script gets a signal."""
PROGRAMS = "apk cat chmod cmp cp flock grep head id mktemp mv readlink rm sed sha256sum tail tr wget"


class Stepping:
    """Runs the script on the machine as it was, with a signal at one of its steps."""

    def __init__(self, machine: Machine, channel: Channel, shell: str) -> None:
        self._machine = machine
        self._shell = shell
        programs = machine.own / "var/programs"
        programs.mkdir()
        (programs / "step").write_text(STEP)
        (programs / "step").chmod(0o755)
        for name in PROGRAMS.split():
            (programs / name).symlink_to("step")
        shutil.copy(channel.folder / "channels/stable/install.sh", machine.own / "var")
        shutil.copytree(machine.own / "etc/apk", machine.own / "var/saved/etc")
        shutil.copytree(machine.own / "lib/apk", machine.own / "var/saved/lib")

    def steps(self) -> list[str]:
        return (self._machine.own / "var/steps").read_text().split()

    def run(self, at: int, signal: str) -> tuple[int, dict[str, tuple[int, bytes]]]:
        """Return the exit status, and the state that the machine is in then."""
        done = self._machine.run(
            "rm -rf /etc/apk/* /lib/apk/* /tmp/* /var/steps;"
            "cp -a /var/saved/etc/. /etc/apk; cp -a /var/saved/lib/. /lib/apk;"
            f"PATH=/var/programs /bin/sh -c 'echo $$ >/var/pid; exec {self._shell}' </var/install.sh",
            REAL=PATH,
            AT=str(at),
            SIGNAL=signal,
        )
        return done.returncode, self._machine.state()


def test_a_signal_at_any_step_leaves_nothing_or_all(machine: Machine, channel: Channel, shell: str) -> None:
    before = machine.state()
    stepping = Stepping(machine, channel, shell)
    code, installed = stepping.run(0, "-")
    steps = stepping.steps()
    assert (code, steps.count("apk")) == (0, 2)
    for at, step in enumerate(steps, 1):
        signal, number = (("HUP", 129), ("INT", 130), ("TERM", 143))[at % 3]
        expected = (number, before) if "apk" in steps[at:] or at == steps.index("apk") + 1 else (0, installed)
        assert stepping.run(at, signal) == expected, f"{signal} after {at} {step}"


def test_a_kill_at_any_step_is_made_good_by_the_next_run(machine: Machine, channel: Channel) -> None:
    stepping = Stepping(machine, channel, "/bin/sh")
    _, installed = stepping.run(0, "-")
    for at in range(3, len(stepping.steps()) + 1, 2):
        assert stepping.run(at, "KILL")[0] == 137
        assert machine.run("sh /var/install.sh; rm -rf /tmp/*").returncode == 0
        assert machine.state() == installed


def signal_of(what: str) -> bytes:
    """Return an install script that sends signals while apk runs it: to apk, or the shell that waits for apk."""
    return f"#!/bin/sh\napk=$PPID\nshell=$(awk '{{ print $4 }}' /proc/$apk/stat)\n{what}\n".encode()


def test_what_apk_has_done_stays_done(machine: Machine, channel: Channel, shell: str) -> None:
    channel.publish(scripts={".pre-install": signal_of("kill -TERM $shell; kill -INT $shell")})
    done = machine.run(channel.one_liner(shell))
    assert (done.returncode, machine.installed) == (0, "1.2.3-r4")
    assert machine.repositories.read_text() == f"{channel.repository_url}\n"


@pytest.mark.parametrize(
    ("what", "status"), [("kill -INT $apk $shell", 130), ("kill -TERM $apk", 143), ("kill -KILL $apk", 137)]
)
def test_where_apk_is_interrupted_all_is_as_it_was(
    machine: Machine, channel: Channel, shell: str, what: str, status: int
) -> None:
    channel.publish(scripts={".post-install": signal_of(what)})
    before, packages = machine.state(), machine.packages
    done = machine.run(channel.one_liner(shell))
    assert done.returncode == status
    assert (machine.state(), machine.packages) == (before, packages)


@pytest.mark.shellcheck
def test_shellcheck_finds_nothing(channel: Channel) -> None:
    script = str(channel.folder / "channels/stable/install.sh")
    for dialect in ("sh", "dash"):
        done = subprocess.run(["shellcheck", f"--shell={dialect}", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")

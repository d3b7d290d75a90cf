"""`make demo`: two applications, from instellar.yml to packages that the real apk installs, upgrades and removes.

Everything is real: pakman's command line, git, an S3 server, apk and OpenRC in an Alpine root. What it says is a
handful of lines with sizes and seconds; the last is the line a user would put into /etc/apk/repositories.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from pakman.buildroots import rootfs
from pakman.progress import human_size
from tests.machine import Machine, running_machine
from tests.servers import S3Server, running_s3_server
from tests.standins import nginx_repository

TOP = Path(__file__).parents[1]
CACHE = TOP / ".cache"
BUCKET = "s3://demo/apk"
PORT = 8080


WHAT_IS_LEFT = """
    # busybox's timeout, which guards an answer, looks once a second whether there is anything left to guard.
    for _ in 1 2 3 4 5 6; do pgrep -f hello-web || break; sleep 0.5; done
    pgrep -fa hello-web || find /etc /usr /run -path '*hello-web*' ! -path '/etc/apk/*' | grep . || echo nothing is left
"""


class Demo:
    """One run: a folder for everything, an S3 server, and the lines that were said."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.folder = folder
        self.server = server

    @contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """Say what happens, then how it went and how long it took."""
        said: list[str] = []
        began = time.monotonic()
        print(f"{text:<58}", end="", flush=True)
        yield said
        print(f"{time.monotonic() - began:6.1f} s  {' '.join(said)}", flush=True)

    def run(self, *argv: str, cwd: Path, **env: str) -> str:
        """Run a program that must succeed; show what it wrote only when it does not."""
        home = {"HOME": str(self.folder), "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            argv, cwd=cwd, env={"PATH": os.environ["PATH"], **home, **env}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"\n`{' '.join(argv)}` exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def pakman(self, *argv: str, cwd: Path) -> str:
        """Run pakman as a user would."""
        return self.run(sys.executable, "-m", "pakman", *argv, cwd=cwd, **self.server.env)

    def checkout(self, example: str) -> Path:
        """Make a git repository out of an example, tagged v1.0.0."""
        source = self.folder / example
        shutil.copytree(TOP / "examples" / example, source)
        self.run("git", "init", "--quiet", "--initial-branch=main", cwd=source)
        self.commit(source, "v1.0.0")
        self.pakman("keygen", "--project", f"acme/{example}", "--output", str(self.folder), cwd=source)
        return source

    def commit(self, source: Path, tag: str) -> None:
        """Commit all and tag it."""
        git = ["git", "-c", "user.name=Acme", "-c", "user.email=acme@example.com"]
        self.run(*git, "add", "--all", cwd=source)
        self.run(*git, "commit", "--quiet", "--allow-empty", "--message", tag, cwd=source)
        self.run(*git, "tag", tag, cwd=source)

    def ship(self, source: Path, *, is_tested: bool = False) -> dict[str, str]:
        """Let `pakman run` build, test where that is wanted, and push a checkout; return its step outputs."""
        outputs = self.folder / f"{source.name}.outputs"
        outputs.unlink(missing_ok=True)
        self.run(
            sys.executable, "-m", "pakman", "run", "--project", f"acme/{source.name}", "--bucket", BUCKET,
            "--output", str(self.folder / "packages" / source.name),
            "--build-root", "sandbox", "--builder", "embedded", "--cache-dir", str(CACHE),
            "--signing-key", str(self.folder / f"acme-{source.name}.rsa"),
            *(["--run-root", "sandbox"] if is_tested else ["--no-test"]),
            cwd=source, GITHUB_OUTPUT=str(outputs), **self.server.env,
        )  # fmt: skip
        return parsed(outputs.read_text())


def parsed(text: str) -> dict[str, str]:
    """Read what GitHub would read from GITHUB_OUTPUT."""
    values: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if "<<" in line and "=" not in line.split("<<")[0]:
            name, _, delimiter = line.partition("<<")
            content: list[str] = []
            for inner in lines:
                if inner == delimiter:
                    break
                content.append(inner)
            values[name] = "\n".join(content)
        else:
            name, _, value = line.partition("=")
            values[name] = value
    return values


def sizes(outputs: dict[str, str]) -> str:
    """Return `name-version (size)` of each package."""
    packages = json.loads(outputs["packages"])
    return ", ".join(f"{package['name']}-{package['version']} ({human_size(package['size'])})" for package in packages)


def checks(folder: Path) -> str:
    """Return how many checks a package has passed before it was pushed."""
    suite = ElementTree.parse(folder / "test-report.xml").getroot()
    return f"{suite.get('tests')} checks, {suite.get('failures')} failures"


def trust(machine: Machine, outputs: dict[str, str]) -> None:
    """Do on the machine what the README says: take the key and the repository's address."""
    key = seen_from(machine, outputs["public-key-url"])
    machine.sh(f"wget -q -O /etc/apk/keys/{key.rpartition('/')[2]} {key}")
    repository = seen_from(machine, outputs["repository-url"])
    machine.sh(f"echo {repository} >> /etc/apk/repositories && apk update --quiet")


def seen_from(machine: Machine, url: str) -> str:
    """Return the address that a URL on this computer's loopback has on the machine."""
    return url.replace("127.0.0.1", machine.host)


def fetched(machine: Machine, port: int) -> str:
    """Fetch the start page, waiting for the service's first answer."""
    return machine.sh(f"""
        for _ in 1 2 3 4 5 6 7 8 9 10; do curl -sf http://127.0.0.1:{port}/ && exit; sleep 0.3; done; exit 1
    """)


def expect(what: str, *, of: str) -> None:
    """End the demo when a page or a listing does not say what it should."""
    if what not in of:
        sys.exit(f"\nexpected {what!r} in:\n{of}")


def refuse_a_port_that_is_taken() -> None:
    """End the demo where somebody else would answer in the examples' place: the machine has this one's network."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", PORT))
        except OSError as error:
            sys.exit(f"port {PORT}, where the examples serve, cannot be had: {error.strerror}; end what has it")


def main() -> None:
    """Tell the whole story."""
    refuse_a_port_that_is_taken()
    folder = Path(tempfile.mkdtemp(prefix="pakman-demo-"))
    try:
        with running_s3_server(folder / "s3") as server:
            repository = story(Demo(folder, server))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\nin /etc/apk/repositories:\n{repository}")


def story(demo: Demo) -> str:
    """Ship two examples, live with one of them on a clean machine, return its repository's address."""
    demo.run(str(Path(sys.executable).parent / "s5cmd"), "--endpoint-url", demo.server.endpoint, "mb", "s3://demo",
             cwd=demo.folder, **demo.server.env)  # fmt: skip
    web, static = demo.checkout("hello-web"), demo.checkout("hello-static")
    with demo.step("pakman run: hello-web 1.0.0, tested, to the bucket") as said:
        first = demo.ship(web, is_tested=True)
        said += [f"{sizes(first)};", checks(web.parent / "packages/hello-web" / first["arch"])]
        expect("passed", of=first["test-result"])
    with demo.step("pakman run: hello-static 1.0.0 to the bucket") as said:
        site = demo.ship(static)
        said.append(sizes(site))
    pristine = rootfs.unpacked(None, CACHE, os.environ)
    with running_machine(pristine, demo.folder / "machine") as machine:
        trust(machine, first)
        with demo.step("apk add hello-web, in a clean Alpine root"):
            machine.sh("apk add --quiet hello-web")
        with demo.step("rc-service hello-web start, GET /"):
            machine.sh("rc-service --quiet hello-web start")
            expect("1.0.0", of=fetched(machine, PORT))
        with demo.step("rc-service hello-web migrate") as said:
            said.append(machine.sh("rc-service hello-web migrate").strip().splitlines()[-1])
        demo.commit(web, "v1.1.0")
        with demo.step("pakman run: hello-web 1.1.0 to the bucket") as said:
            second = demo.ship(web)
            said.append(sizes(second))
        with demo.step("apk upgrade: the same service, the new page"):
            machine.sh(f"sed -i 's|{first['repository-url']}|{second['repository-url']}|' /etc/apk/repositories")
            machine.sh("apk upgrade --quiet --update-cache")
            expect("1.1.0", of=fetched(machine, PORT))
        with demo.step("apk del hello-web: no process, no file is left"):
            machine.sh("apk del --quiet hello-web")
            expect("nothing is left", of=machine.sh(WHAT_IS_LEFT))
        with demo.step("apk add hello-static nginx, GET /") as said:
            said.append(nginx_repository(machine, CACHE))
            trust(machine, site)
            machine.sh("apk add --quiet hello-static && nginx")
            expect("1.0.0", of=fetched(machine, PORT))
            machine.sh("nginx -s quit; apk del --quiet hello-static")
    return second["repository-url"]


if __name__ == "__main__":
    main()

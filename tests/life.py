"""The life of hello-web on a machine, step by step: shipped to a bucket, installed from it, killed, upgraded, removed.

The same steps for every kind of machine; what they find wrong is an AssertionError.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from tests import demo
from tests.machine import PATIENCE, Machine
from tests.servers import S3Server
from tests.services import pid_of
from tests.standins import packages, s6_tree

NAME = "hello-web"
_PID = pid_of(NAME)
_PAUSE = 0.05
"""Seconds between two questions: each costs a machine whose processor is emulated about as much again."""


class Shop:
    """A bucket to which hello-web is shipped, version by version; the latest one's step outputs are `outputs`."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        folder.mkdir()
        self._demo = demo.Demo(folder, server)
        self._client = server.client()
        self._client.create_bucket(Bucket="demo")
        self._source = self._demo.checkout(NAME)
        self._mirror = f"{server.endpoint}/demo/mirror"
        self.outputs = self._demo.ship(self._source)

    def ship(self, tag: str) -> dict[str, str]:
        """Ship the next version."""
        self._demo.commit(self._source, tag)
        self.outputs = self._demo.ship(self._source)
        return self.outputs

    def ship_with_s6(self, tag: str) -> dict[str, str]:
        """Ship a version that s6 supervises."""
        manifest = self._source / "instellar.yml"
        manifest.write_text(manifest.read_text().replace("runtime: [curl]", "runtime: [curl, s6]"))
        return self.ship(tag)

    def mirror_s6(self) -> dict[str, str]:
        """Put s6 into the bucket, as Alpine's mirror has it; return where, as step outputs say it."""
        folder = self._demo.folder / "mirror"
        key = packages(folder, {"s6": s6_tree(demo.CACHE)})
        (folder / key.name).write_bytes(key.public_pem)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            self._client.upload_file(str(path), "demo", f"mirror/{path.relative_to(folder)}")
        return {"public-key-url": f"{self._mirror}/{key.name}", "repository-url": self._mirror}


class Visitor:
    """Asks hello-web for its page again and again, from outside of the machine; `answers` has seconds and pages."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/"
        self.answers: list[tuple[float, str]] = []
        self.is_leaving = threading.Event()

    def visit(self) -> None:
        """Ask until it is time to leave."""
        while not self.is_leaving.wait(_PAUSE):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    self.answers.append((time.monotonic(), answer.read().decode()))
            except (OSError, http.client.HTTPException):
                pass

    def must_see(self, text: str, since: float = 0) -> float:
        """Wait for a page with the text that comes after `since`; return when the first of them came."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for when, page in tuple(self.answers):
                if when > since and text in page:
                    return when
            time.sleep(0.02)
        raise AssertionError(f"no page says {text!r}; the last one: {self.answers[-1:]}")

    def longest_silence(self, since: float) -> float:
        """Return the longest time between two answers, in seconds."""
        times = [when for when, _ in self.answers if when >= since]
        return max(later - earlier for earlier, later in pairwise(times))


@contextmanager
def visitor(port: int) -> Iterator[Visitor]:
    """Send somebody who asks for the page until the end of the block."""
    made = Visitor(port)
    thread = threading.Thread(target=made.visit)
    thread.start()
    try:
        yield made
    finally:
        made.is_leaving.set()
        thread.join()


def settings(machine: Machine, port: int) -> None:
    """Write down, before there is a service, what it is to be started with."""
    machine.sh(f"""
        mkdir -p /etc/{NAME}
        (umask 077; echo PORT={port} >/etc/{NAME}/env)
        echo healthcheck_timer=2 >/etc/conf.d/{NAME}
    """)


def install(machine: Machine, port: int) -> float:
    """Install and start; return the seconds from `apk add` to the first answer."""
    with visitor(port) as person:
        began = time.monotonic()
        machine.sh(f"apk add --quiet {NAME} && rc-service --quiet {NAME} start")
        return person.must_see(f"This is {NAME}") - began


def must_be_enabled_and_started(machine: Machine) -> None:
    """See the service in the default runlevel, started."""
    runlevels = machine.sh("rc-update show --verbose")
    assert re.search(rf"^ *{NAME} \| +default *$", runlevels, re.MULTILINE), runlevels
    must_be("started", machine)


def must_be(state: str, machine: Machine) -> None:
    """See what rc-status says of the service: started, stopped, failed…"""
    said = machine.sh("rc-status --all 2>/dev/null")
    assert re.search(rf"^ {NAME} +\[ +{state} .*\]$", said, re.MULTILINE), said


def die_once(machine: Machine, port: int) -> None:
    """Kill the service: it runs again, as another process."""
    machine.sh(_PID + "first=$(pid); kill -9 $first; gone $first; second=$(pid); [ $first != $second ]")
    with visitor(port) as person:
        person.must_see(f"This is {NAME}")
    must_be("started", machine)


def die_five_times(machine: Machine, port: int) -> None:
    """Kill it five times within a minute: it has failed, and nobody starts it any more until somebody asks for it."""
    deaths = machine.sh(f"""{_PID}
        rc-service --quiet {NAME} restart
        read -r before _ </proc/uptime
        for death in 1 2 3 4 5; do last=$(pid); kill -9 $last; gone $last; echo "death of $last"; done
        for _ in $(seq 300); do [ ! -L /run/openrc/failed/{NAME} ] || break; busybox usleep 100000; done
        read -r after _ </proc/uptime
        echo "took $((${{after%.*}} - ${{before%.*}})) seconds"
    """)
    assert len(set(deaths.split("\n"))) >= 5 + 1, deaths
    must_be("failed", machine)
    left = machine.sh("sleep 2; pgrep -fl 's6-svscan|s6-supervise|supervise-daemon' || echo nobody supervises")
    assert "nobody supervises" in left, left
    machine.sh(f"rc-service --quiet {NAME} zap && rc-service --quiet {NAME} start")
    with visitor(port) as person:
        person.must_see(f"This is {NAME}")
    must_be("started", machine)


def log(machine: Machine, port: int) -> None:
    """Look at the log: the service's words are in it, and it belongs to whom it should."""
    said = machine.sh(f"""
        rc-service {NAME} logs >/run/said 2>&1 & sleep 3
        pkill -f 'tail -n 100 -F'; wait; cat /run/said
    """)
    assert f"listening on port {port}" in said, said
    owners = machine.sh(f"cd /var/log/{NAME} && stat -c '%U:%G %a %n' . current").splitlines()
    if supervisor(machine) == "s6":
        assert owners == [f"root:{NAME} 2750 .", f"root:{NAME} 640 current"], owners
    else:
        assert owners == ["root:root 755 .", f"{NAME}:{NAME} 640 current"], owners


def supervisor(machine: Machine) -> str:
    """Return what supervises the service."""
    return "s6" if machine.run("pgrep s6-supervise")[0] == 0 else "supervise-daemon"


def rotate(machine: Machine) -> None:
    """Let the log grow beyond 1 MB: supervise-daemon's health check puts it aside, and the service goes on."""
    listing = machine.sh(f"""{_PID}
        cd /var/log/{NAME}; first=$(pid)
        seq 200000 >>current
        for _ in $(seq 300); do [ ! -s current.1 ] || [ -s current ] || break; busybox usleep 100000; done
        stat -c '%U:%G %a %n' current*; wc -c <current.1
        [ $first = $(pid) ]
    """).splitlines()
    assert listing[:2] == [f"{NAME}:{NAME} 640 current", f"{NAME}:{NAME} 640 current.1"], listing
    assert int(listing[2]) > 1_000_000, listing


def upgrade(machine: Machine, port: int, before: dict[str, str], after: dict[str, str], version: str) -> float:
    """Upgrade while somebody asks for the page; return the longest time without an answer, in seconds."""
    old, new = (demo.seen_from(machine, outputs["repository-url"]) for outputs in (before, after))
    machine.sh(f"sed -i 's|{old}|{new}|' /etc/apk/repositories && apk update --quiet")
    with visitor(port) as person:
        began = person.must_see(f"This is {NAME}")
        machine.sh("apk upgrade --quiet")
        first = person.must_see(f"This is {NAME} {version}.")
        # One more, so that what comes after the first one counts.
        person.must_see(f"This is {NAME} {version}.", first)
        return person.longest_silence(began)


def remove(machine: Machine) -> None:
    """Remove the package: nothing is left but its account, and what is the administrator's."""
    machine.sh(f"apk del --quiet {NAME}")
    left = machine.sh(f"rm -r /etc/{NAME} /etc/conf.d/{NAME}; {demo.WHAT_IS_LEFT}")
    assert left.splitlines()[-1:] == ["nothing is left"], left
    assert NAME not in machine.sh("rc-update show --verbose")
    assert machine.run("pgrep -fl 's6-svscan|s6-supervise|supervise-daemon'")[0] == 1
    machine.sh(f"id {NAME}")

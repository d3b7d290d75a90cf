"""A whole machine: installed over HTTP, rebooted, killed, upgraded while it serves, removed, shut down."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import demo, life
from tests.life import NAME, Shop, visitor
from tests.machine import Machine, running_machine
from tests.servers import S3Server, free_ports
from tests.virtual_machine import VirtualMachine, running_virtual_machine

pytestmark = [
    pytest.mark.alpine,
    pytest.mark.s3,
    pytest.mark.git,
]
emulated = pytest.mark.skipif(platform.machine() != "x86_64", reason="the tests' virtual machine is an x86_64 one")


@pytest.fixture
def shop(s3_server: S3Server, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(tmp_path / "shop", s3_server)
    s3_server.client().delete_bucket(Bucket="demo")


@emulated
def test_a_service_lives_on_a_whole_machine(shop: Shop, tmp_path: Path) -> None:
    [port] = free_ports(1)
    with running_virtual_machine(tmp_path / "vm", port) as machine:
        machine.wait_until_up()
        is_installed(machine, port, shop)
        is_back_after_a_reboot(machine, port)
        dies_is_upgraded_and_removed(machine, port, shop)
        lives_again_under_s6(machine, port, shop)
        console = machine.power_off()
    was_stopped_in_time(console)
    assert "Power down" in console, console


def test_a_service_lives_in_a_sandbox(shop: Shop, alpine_pristine: Path, tmp_path: Path) -> None:
    [port] = free_ports(1)
    with running_machine(alpine_pristine, tmp_path / "machine") as machine:
        is_installed(machine, port, shop)
        dies_is_upgraded_and_removed(machine, port, shop)
        lives_again_under_s6(machine, port, shop)
        life.remove(machine)


def is_installed(machine: Machine, port: int, shop: Shop) -> None:
    demo.trust(machine, shop.outputs)
    life.settings(machine, port)
    print(f"{life.install(machine, port):.2f} s from `apk add` to the first answer")
    life.must_be_enabled_and_started(machine)
    life.log(machine, port)


def is_back_after_a_reboot(machine: VirtualMachine, port: int) -> None:
    console = machine.reboot()
    with visitor(port) as person:
        person.must_see(f"This is {NAME}")
    was_stopped_in_time(console)
    assert said_in_order(console, "Mounting local", "Starting networking", f"Starting {NAME}"), console
    life.must_be_enabled_and_started(machine)


def dies_is_upgraded_and_removed(machine: Machine, port: int, shop: Shop) -> None:
    life.die_once(machine, port)
    life.die_five_times(machine, port)
    life.rotate(machine)
    before, after = shop.outputs, shop.ship("v1.1.0")
    silence = life.upgrade(machine, port, before, after, "1.1.0")
    print(f"{silence:.2f} s without an answer during the upgrade")
    life.remove(machine)


def lives_again_under_s6(machine: Machine, port: int, shop: Shop) -> None:
    demo.trust(machine, shop.mirror_s6())
    demo.trust(machine, shop.ship_with_s6("v1.2.0"))
    life.settings(machine, port)
    life.install(machine, port)
    assert life.supervisor(machine) == "s6"
    life.must_be_enabled_and_started(machine)
    life.log(machine, port)
    life.die_once(machine, port)
    life.die_five_times(machine, port)


def was_stopped_in_time(console: str) -> None:
    """See that the service was stopped while its network, log and files were there: Alpine lets the network go last."""
    assert said_in_order(console, f"Stopping {NAME}", "syslog", "Unmounting file", "Terminating remaining"), console
    assert "Stopping networking" not in console


def said_in_order(console: str, *words: str) -> bool:
    """Whether the console has the words, each after the one before."""
    places = [console.find(each) for each in words]
    return -1 not in places and places == sorted(places)


@emulated
def test_a_machine_ends_with_whoever_switched_it_on(tmp_path: Path) -> None:
    [port] = free_ports(1)
    argv = [sys.executable, "-m", "tests.virtual_machine", str(tmp_path / "vm"), str(port)]
    deadline = time.monotonic() + 60
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = Path(f"/proc/{int(process.stdout.readline())}/cmdline")
        # It is setpriv for a moment.
        while not (is_on := words.read_bytes().startswith(b"qemu-system-x86_64")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert is_on
    # Empty for a process that is dead and that nobody has asked about.
    while words.exists() and words.read_bytes():
        assert time.monotonic() < deadline, "the virtual machine goes on"
        time.sleep(0.05)

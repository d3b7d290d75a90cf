"""hello-web on a whole machine and in the sandbox: seconds until it answers, and without an answer in an upgrade.

Run it as `python -m benchmarks.machine`. The same steps on both; somebody asks for the page from outside all the time.
On a computer without KVM the machine's processor is emulated, and everything on it takes some twenty times as long.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from pakman.buildroots import rootfs
from tests import demo, life
from tests.life import Shop
from tests.machine import Machine, running_machine
from tests.servers import free_ports, running_s3_server
from tests.virtual_machine import running_virtual_machine


def main() -> int:
    """Print a line for each machine; there is no limit."""
    with tempfile.TemporaryDirectory(prefix="pakman-machine.") as name:
        folder = Path(name)
        pristine = rootfs.unpacked(None, demo.CACHE, os.environ)
        with running_s3_server(folder / "s3") as server:
            shop = Shop(folder / "shop", server)
            first, second = shop.outputs, shop.ship("v1.1.0")
            [port] = free_ports(1)
            with running_machine(pristine, folder / "sandbox") as sandbox:
                print(f"hello-web in the sandbox: {_lived(sandbox, port, first, second)}")
            with running_virtual_machine(folder / "vm", port) as machine:
                machine.wait_until_up()
                print(f"hello-web in a VM ({machine.accelerator}): {_lived(machine, port, first, second)}")
    return 0


def _lived(machine: Machine, port: int, first: dict[str, str], second: dict[str, str]) -> str:
    demo.trust(machine, first)
    life.settings(machine, port)
    answered = life.install(machine, port)
    silent = life.upgrade(machine, port, first, second, "1.1.0")
    return f"{answered:.2f} s from `apk add` to the first answer, {silent:.2f} s without one during `apk upgrade`"


if __name__ == "__main__":
    sys.exit(main())

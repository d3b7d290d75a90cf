"""apk's install scripts, run in the order in which apk runs them, with OpenRC and without."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pakman.manifest import Command, Manifest, Ready, Service, Stop
from pakman.service import install_scripts, service_files
from tests.integration.conftest import CACHE
from tests.services import NAME, PID, Machine, manifest, small_copy

pytestmark = pytest.mark.alpine


@pytest.fixture
def machine(alpine_pristine: Path, tmp_path: Path) -> Iterator[Machine]:
    root = small_copy(alpine_pristine, tmp_path / "alpine")
    yield Machine(root)
    shutil.rmtree(root.path)


def hooked(**hooks: str) -> Manifest:
    return replace(manifest(), hook={kind.replace("_", "-"): text for kind, text in hooks.items()})


# As public manifests have them.
USUAL = {
    "post_install": f"rc-update add {NAME}\nrc-service {NAME} migrate\n",
    "pre_upgrade": f"rc-service {NAME} stop\n",
    "post_upgrade": f"rc-service {NAME} migrate\nrc-service {NAME} start\n",
    "post_deinstall": f"rc-service {NAME} stop\nrc-update del {NAME}\n",
}


def migrating(manifest: Manifest, binary: str = "true") -> Manifest:
    assert manifest.run is not None
    return replace(manifest, run=replace(manifest.run, commands=(Command("migrate", binary, path="/bin"),)))


TOLD = Service(
    "web", "web", stop=Stop('stop "it\'s"', "QUIT", "a b.pid"), ready=Ready(port=80, command="bin/healthy '$A'")
)
KITS = (
    {
        "main": True,
        "variables": [{"key": "A", "default_value": "it's"}, {"key": "B", "required": True}],
    },
)

SCRIPTS = f"""
script() {{ [ ! -e /scripts/{NAME}.$1 ] || (cd / && /scripts/{NAME}.$1 1.0 0.9); }}
state() {{ rc-service {NAME} status >/dev/null 2>&1 && echo "$1: runs" || echo "$1: stopped"; }}
enabled() {{ ls /etc/runlevels/*/{NAME} 2>/dev/null || echo "not enabled"; }}
"""


@pytest.mark.parametrize(
    ("hooks", "supervisor"),
    [({}, "supervise-daemon"), (USUAL, "supervise-daemon"), (USUAL, "s6")],
    ids=["defaults", "usual", "s6"],
)
def test_the_life_of_a_package(machine: Machine, hooks: dict[str, str], supervisor: str) -> None:
    if supervisor == "s6":
        machine.add_s6(CACHE)
    machine.install(migrating(hooked(**hooks)))
    out = machine.sh(
        SCRIPTS
        + PID
        + f"""
        script post-install; enabled; state installed
        rc-service {NAME} start; first=$(pid)
        script pre-upgrade; state upgrading
        sed -i '2i echo "the new files run"' /usr/libexec/{NAME}/run
        script post-upgrade; state upgraded; [ "$first" != "$(pid)" ]
        ls /run/*.was-running 2>/dev/null || echo forgotten
        rc-service {NAME} stop
        script pre-upgrade; script post-upgrade; state "upgraded while stopped"
        rc-service {NAME} start; pid >/dev/null
        mkdir -p /var/lib/pakman/{NAME}; touch /var/lib/pakman/{NAME}/environment
        script pre-deinstall; state removing; enabled
        rm -r /usr/libexec/{NAME} /var/lib/{NAME}
        script post-deinstall
        rm /etc/init.d/{NAME}
        script post-deinstall; echo "without an init script, too"
        ps -o args | grep -E 'supervise|s6-|sleep' | grep -v grep || echo no process
        ls -d /var/lib/pakman || echo no copy
        find /run /etc/runlevels /etc/init.d -name '*{NAME}*' | grep . || echo no trace
        grep -c '^{NAME}:' /etc/passwd
        """
    )
    lines = out.splitlines()
    for expected in (
        f"/etc/runlevels/default/{NAME}",
        "installed: stopped",
        "upgrading: stopped",
        "upgraded: runs",
        "forgotten",
        "upgraded while stopped: stopped",
        "removing: stopped",
        "not enabled",
        "without an init script, too",
        "no process",
        "no copy",
    ):
        assert expected in lines, out
    assert lines[-1] == "1"
    assert "the new files run" in machine.log()
    assert "no trace" in lines, out


def test_a_migration_that_fails_starts_nothing(machine: Machine) -> None:
    machine.install(migrating(hooked(**USUAL), "false"))
    upgrade = SCRIPTS + f"rc-service {NAME} start; script pre-upgrade; script post-upgrade || echo failed; state then\n"
    out = machine.sh(upgrade + "[ -e /run/shop.was-running ] && echo remembered")
    assert out.splitlines()[-3:] == ["failed", "then: stopped", "remembered"]
    # The next version, which is right, starts: the service was to run.
    machine.install(migrating(hooked(**USUAL)))
    out = machine.sh(SCRIPTS + "script pre-upgrade; script post-upgrade; state then")
    assert out.splitlines()[-1] == "then: runs"


def test_a_service_that_had_died_is_started_by_an_upgrade(machine: Machine) -> None:
    machine.install(manifest())
    out = machine.sh(
        SCRIPTS
        + f"mkdir -p /run/openrc/failed; ln -s /etc/init.d/{NAME} /run/openrc/failed/{NAME}; "
        + "script pre-upgrade; script post-upgrade; state then"
    )
    assert out.splitlines()[-1] == "then: runs"


def test_an_upgrade_restarts_what_its_own_hook_did_not_stop(machine: Machine) -> None:
    machine.install(hooked(pre_upgrade="echo 'no stop here'\n"))
    out = machine.sh(
        SCRIPTS
        + PID
        + f"""
        rc-service {NAME} start; first=$(pid)
        script pre-upgrade; [ $first = $(pid) ]
        script post-upgrade; [ $first != $(pid) ]; state then
        """
    )
    assert out.splitlines()[-1] == "then: runs"


@pytest.mark.parametrize("hooks", [{}, USUAL], ids=["defaults", "usual"])
@pytest.mark.parametrize("openrc", ["absent", "not running"])
def test_scripts_do_nothing_where_openrc_is_not(machine: Machine, hooks: dict[str, str], openrc: str) -> None:
    machine.install(migrating(hooked(**hooks), "false"))
    hide = "rm -f /sbin/openrc-run /sbin/rc-service /sbin/rc-update\n" if openrc == "absent" else ""
    out = machine.sh(
        SCRIPTS
        + f"""
        rm -r /run/openrc
        {hide}
        for kind in pre-install post-install; do script $kind; done
        enabled
        for kind in pre-upgrade post-upgrade pre-deinstall; do script $kind; done
        rm -r /usr/libexec/{NAME} /var/lib/{NAME} /etc/init.d/{NAME}
        script post-deinstall
        enabled
        echo the end
        """
    )
    assert out.endswith("not enabled\nthe end")
    assert out.count("not enabled") == (2 if openrc == "absent" else 1)
    if openrc != "absent":
        # A chroot in which an image is made: enabled for its first boot.
        assert f"/etc/runlevels/default/{NAME}" in out


def test_hooks_run_as_written(machine: Machine) -> None:
    said = "  $(id) `id` {{ name }} {% raw %} ${#x}"
    hook = f"""printf '<%s>\\n' "$@"\ncat <<'END'\n{said}\nEND\nfalse\necho not here"""
    machine.install(hooked(post_install=hook))
    assert machine.run(f"/scripts/{NAME}.post-install '1.0 x' 2") == (1, f"<1.0 x>\n<2>\n{said}")


def test_the_account(machine: Machine) -> None:
    machine.install(manifest())
    account = f"grep '^{NAME}:' /etc/passwd; id -gn {NAME}; grep -c '^{NAME}:' /etc/group\n"
    remove = f"deluser {NAME}; delgroup {NAME} 2>/dev/null || :\n"
    entry, *_ = out = machine.sh(account).splitlines()
    assert entry.endswith(f":{NAME}:/var/lib/{NAME}:/sbin/nologin")
    assert 100 <= int(entry.split(":")[2]) < 1000
    assert out[1:] == [NAME, "1"]
    for kind in ("pre-install", "pre-upgrade"):
        script = f"/scripts/{NAME}.{kind} 1.0\n"
        # It is there already; nothing is; the group is; only others are, whose names are like it.
        for before in (
            "",
            remove,
            f"{remove}addgroup -S {NAME}\n",
            f"{remove}adduser -S -D x{NAME}; adduser -S -D {NAME}x\n",
        ):
            again = machine.sh(before + script + account).splitlines()[-3:]
            assert again[0].endswith(f":{NAME}:/var/lib/{NAME}:/sbin/nologin")
            assert again[1:] == [NAME, "1"]
        machine.sh(f"deluser x{NAME}; deluser {NAME}x")


@pytest.mark.shellcheck
def test_every_script_is_shell(machine: Machine, tmp_path: Path) -> None:
    folder = machine.root.path / "check"
    folder.mkdir()
    manifests = (
        manifest(),
        manifest(user="root"),
        manifest(supervisor="s6"),
        manifest(supervisor="s6", user="root"),
        *(replace(manifest(supervisor=supervisor, services=(TOLD,)), kits=KITS) for supervisor in ("s6", None)),
        replace(manifest(user="root", services=(TOLD,)), kits=KITS),
        manifest(services=()),
        hooked(
            **dict.fromkeys((k.replace("-", "_") for k in ("pre-install", "pre-upgrade", "post-upgrade")), "true\n")
        ),
        hooked(**USUAL),
        Manifest(type="static", hook={"post-install": "rc-service nginx restart\n"}),
    )
    files_of = [(*service_files(each, NAME), *install_scripts(each, NAME)) for each in manifests]
    assert sum(map(len, files_of)) > 60
    # Most manifests have most of them alike.
    for file in {file for files in files_of for file in files if not file.name.endswith(".awk")}:
        content = hashlib.sha256(file.content.encode()).hexdigest()[:12]
        (folder / f"{file.name}.{content}").write_text(file.content)
    machine.root.sh('for file in /check/*; do sh -n "$file"; done')
    files = sorted(map(str, folder.iterdir()))
    assert len(files) > 20, len(files)
    done = subprocess.run(["shellcheck", "--shell=dash", "--exclude=SC1091", *files], capture_output=True, check=False)
    assert done.stdout.decode() == ""

"""The service contract, kept by the generated scripts under the real OpenRC: supervision and commands."""

from __future__ import annotations

import os
import pty
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pakman.manifest import Command, Ready, Service, Stop
from pakman.service import service_files
from tests.integration.conftest import _BWRAP, CACHE
from tests.services import NAME, NASTY, PID, Machine, manifest, quoted, small_copy, write

pytestmark = pytest.mark.alpine


@pytest.fixture
def machine(alpine_pristine: Path, tmp_path: Path) -> Iterator[Machine]:
    root = small_copy(alpine_pristine, tmp_path / "alpine")
    yield Machine(root)
    shutil.rmtree(root.path)


@pytest.fixture
def s6(machine: Machine) -> Machine:
    """A machine on which s6 keeps the services."""
    machine.add_s6(CACHE)
    return machine


@pytest.fixture(params=["supervise-daemon", "s6"])
def supervised(machine: Machine, request: pytest.FixtureRequest) -> Machine:
    """A machine on which either of the supervisors keeps the services."""
    if request.param == "s6":
        machine.add_s6(CACHE)
    return machine


def test_a_service_starts_stays_and_stops(supervised: Machine) -> None:
    machine = supervised
    machine.install(manifest())
    out = machine.sh(
        PID
        + f"""
        rc-service {NAME} start
        rc-service {NAME} start; echo "started again: $?"
        first=$(pid); sleep 0.5
        rc-service {NAME} status
        grep -E '^(Uid|NoNewPrivs)' /proc/$first/status; echo "id $(id -u {NAME})"
        echo "parent $(tr '\\0' ' ' </proc/$(awk '{{print $4}}' /proc/$first/stat)/cmdline | cut -d' ' -f1)"
        kill -9 $first; gone $first; sleep 2
        second=$(pid); [ $first != $second ]; echo respawned
        rc-service {NAME} restart; third=$(pid); [ $second != $third ]; ! kill -0 $second 2>/dev/null; sleep 0.3
        rc-service {NAME} stop; echo "stop: $?"
        ! kill -0 $third 2>/dev/null; echo "ended: $third"
        rc-service {NAME} status || echo "status: $?"
        rc-service {NAME} stop; echo "stopped again: $?"
        ps -o args | grep -E 'sleep 100|s6-|supervise|{NAME}/bin' | grep -v grep | grep -v "$first" || echo no process
        ls -A /run | grep {NAME} || echo no file
        """
    )
    assert "started again: 0" in out
    assert " * status: started" in out
    uid = out.partition("\nid ")[2].split()[0]
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in out
    assert f"parent {machine.supervisor.replace('s6', 's6-supervise')}" in out
    assert "respawned" in out
    assert "stop: 0" in out
    assert "status: 3" in out
    assert "stopped again: 0" in out
    assert "no file" in out
    log = machine.log()
    assert log.count("\nterminated\n") == 2
    words = "".join(f"word <{word}>\n" for word in NASTY)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    home = f"/var/lib/{NAME}"
    assert f"{NAME}:{NAME} in {home}, HOME={home}, USER={NAME}, MODE=, PATH={path}\n{words}to stderr\n" in log
    assert "again\n/dev/null\n" in log
    assert f"web {out.partition('ended: ')[2].split()[0]} " in log
    assert not (machine.root.path / "tmp/owned").exists()


def test_what_a_service_leaves_behind_ends_with_it(supervised: Machine) -> None:
    machine = supervised
    machine.install(manifest())
    out = machine.sh(
        PID
        + f"""
        rc-service {NAME} start; pid; sleep 0.5
        pgrep -f 'sleep 1001'
        rc-service {NAME} stop; sleep 0.2
        pgrep -f 'sleep 1001' || echo nobody
        """
    )
    assert out.endswith("nobody")


def test_what_left_the_services_session_keeps_no_log_alive(s6: Machine) -> None:
    machine = s6
    machine.programs["web"] = "#!/bin/sh\nsetsid sleep 1003 &\nexec sleep 1004\n"
    machine.install(manifest())
    out = machine.sh(
        PID + f"rc-service {NAME} start; pid; sleep 0.3; rc-service {NAME} stop; pgrep -fl 's6-|sleep 100'; ls -A /run"
    )
    assert re.search(r"^\d+ sleep$", out, re.MULTILINE)
    assert "s6" not in out


def test_five_deaths_in_a_minute_are_enough(supervised: Machine) -> None:
    machine = supervised
    machine.programs["web"] = "#!/bin/sh\necho born\nexit 1\n"
    machine.install(manifest())
    before = time.monotonic()
    out = machine.sh(
        f"""
        rc-service {NAME} start
        for i in $(seq 200); do [ -L /run/openrc/failed/{NAME} ] && break; busybox usleep 100000; done
        sleep 1
        rc-service {NAME} status || echo "status: $?"
        rc-status --all 2>/dev/null | grep -w {NAME}
        ps -o args | grep -q '[s]upervise' || echo nobody supervises
        sed -i 's/echo born/exec sleep 1005/' /var/lib/{NAME}/bin/web
        rc-service {NAME} start; sleep 0.5; rc-service {NAME} status; pgrep -f 'sleep 1005'
        """
    )
    assert machine.log().count("born") == 5
    assert time.monotonic() - before < 20
    assert "nobody supervises" in out
    assert re.search(rf"^ {NAME} +\[ +failed +\]$", out, re.MULTILINE), out


def test_a_death_that_supervise_daemon_missed_is_noticed_soon(machine: Machine) -> None:
    machine.programs["web"] = "#!/bin/sh\nexec sleep 1009\n"
    machine.install(manifest())
    # It notices a death while it opens its FIFO, which takes until somebody writes into that, and misses one that comes
    # at any other time: while a writer who is there keeps it from waiting, for one, or before it has begun to wait.
    out = machine.sh(
        PID
        + f"""
        age() {{ awk -v ticks="$(cut -d ' ' -f 22 "/proc/$1/stat")" '{{ print int($1 * 100) - ticks }}' /proc/uptime; }}
        for try in $(seq 20); do
            rc-service {NAME} restart
            until first=$(cat /run/openrc/options/{NAME}/child_pid); do busybox usleep 10000; done 2>/dev/null
            exec 3>/run/openrc/supervise-{NAME}.ctl
            kill -9 "$first"; busybox usleep 100000; exec 3>&-
            # On a busy machine it may be about to look after its log by now: then this was no trial, and it is told.
            [ "$(age "$first")" -lt 95 ] && break
            kill -CHLD "$(cat /run/{NAME}.pid)"
        done
        grep State "/proc/$first/status"
        for i in $(seq 100); do [ -d "/proc/$first" ] || break; busybox usleep 100000; done
        [ ! -d "/proc/$first" ] && echo noticed; sleep 2; [ "$(pid)" != "$first" ] && echo another
        """
    )
    assert "State:\tZ (zombie)" in out
    assert "noticed\nanother" in out


def test_an_openrc_from_before_0_63_serves_as_well(supervised: Machine) -> None:
    machine = supervised
    machine.add_older_openrc(CACHE)
    machine.programs["web"] = "#!/bin/sh\necho born\nexec sleep 1007\n"
    machine.install(manifest())
    out = machine.sh(
        PID
        + f"""
        cd /run/openrc; mkdir starting started stopping inactive wasinactive failed hotplugged exclusive options daemons
        rc-service --version
        rc-service {NAME} start; first=$(pid); rc-service {NAME} status
        rc-service {NAME} restart; second=$(pid); [ $first != $second ]; ! kill -0 $first 2>/dev/null
        rc-service {NAME} stop; rc-service {NAME} status || echo "status: $?"
        rc-service {NAME} start
        for i in $(seq 5); do last=$(pid); kill -9 $last; gone $last; sleep 1.2; done
        sleep 1; rc-status --all 2>/dev/null | grep -w {NAME}
        pgrep -fl 's6-|supervise' || echo nobody supervises
        """
    )
    version = re.match(r"rc-service \(OpenRC.*?\) 0\.([0-9]+)", out)
    assert version is not None, out
    assert int(version[1]) < 63, "this machine's distribution has no older OpenRC any more"
    assert "status: started" in out
    assert "status: 3" in out
    assert machine.log().count("born") == 2 + 5
    assert re.search(rf"^ {NAME} +\[ +failed +\]$", out, re.MULTILINE), out
    assert "nobody supervises" in out


def test_a_stop_waits_and_then_kills(supervised: Machine) -> None:
    machine = supervised
    machine.programs["web"] = "#!/bin/sh\ntrap 'echo asked' TERM\necho up\nwhile :; do busybox usleep 100000; done\n"
    machine.install(manifest())
    machine.conf("retry=TERM/2/KILL/2\n" if machine.supervisor == "s6" else "retry=2\n")
    out = machine.sh(
        PID
        + f"""
        rc-service {NAME} start; web=$(pid); sleep 0.5
        before=$(date +%s); rc-service {NAME} stop; after=$(date +%s)
        ! kill -0 $web 2>/dev/null
        echo "waited $((after - before))"
        """
    )
    assert 1 <= int(out.partition("waited ")[2]) <= 4
    assert machine.log() == "up\nasked\n"


# Ends only for QUIT, or when it is told so by `web stop`, as the programs of Erlang releases do.
STOPPABLE = r"""#!/bin/sh
if [ "${1:-}" = stop ]; then
    echo "asked by $(id -un) with $*, A=$A" >>/var/log/asked
    exec kill -9 "$(cat /var/lib/shop/web.pid)"
fi
[ ! -e /var/lib/shop/web.pid ] || { echo "is it running already?"; exit 1; }
echo $$ >/var/lib/shop/web.pid
trap 'echo quit; exit 0' QUIT
trap '' TERM
echo born
while :; do busybox usleep 50000; done
"""


@pytest.mark.parametrize("call", ["", "stop 'a  b'"])
def test_a_service_says_how_it_is_stopped(supervised: Machine, call: str) -> None:
    machine = supervised
    machine.programs["web"] = STOPPABLE
    machine.settings("A=from the environment\n")
    stop = Stop(call=call, signal="QUIT", pid_path="web.pid")
    machine.install(manifest(services=(Service("web", "web", stop=stop), Service("worker", "sleep", path="/bin"))))
    before = time.monotonic()
    out = machine.sh(
        PID
        + f"""
        touch /var/log/asked; chmod 666 /var/log/asked
        rc-service {NAME} start; first=$(pid); sleep 0.3
        kill -9 $first; gone $first; sleep 1.5; second=$(pid); sleep 0.3; [ $first != $second ]
        rc-service {NAME} stop; ! kill -0 $second 2>/dev/null; sleep 1.5
        pgrep -f {NAME}/bin/web || echo none left; cat /var/log/asked
        """
    )
    assert "none left" in out
    # The file that the crash left behind was no obstacle.
    assert machine.log() == ("born\nborn\n" if call else "born\nborn\nquit\n")
    assert (f"asked by {NAME} with stop a  b, A=from the environment" in out) == bool(call)
    assert time.monotonic() - before < 15


LISTENER = "#!/bin/sh\nsleep 1\nexec nc -l -p 47113 -s 127.0.0.1\n"


def test_a_start_waits_until_the_service_is_ready(supervised: Machine) -> None:
    machine = supervised
    machine.programs |= {"web": LISTENER, "healthy": '#!/bin/sh\n[ -e "$A" ] && [ "$1 $(id -un)" = "a  b shop" ]\n'}
    machine.settings("A=/tmp/healthy\n")
    ready = Ready(port=47113, command="bin/healthy 'a  b'", timeout=8)
    machine.install(manifest(services=(Service("web", "web", ready=ready), Service("worker", "sleep", path="/bin"))))
    out = machine.sh(
        PID
        + f"""
        (sleep 2; touch /tmp/healthy) &
        read -r before _ </proc/uptime; rc-service {NAME} start; read -r after _ </proc/uptime
        echo "waited $((${{after%.*}} - ${{before%.*}}))"
        rc-service {NAME} status; rc-service {NAME} stop
        """
    )
    assert 1 <= int(out.partition("waited ")[2].split()[0]) <= 5
    assert "status: started" in out


@pytest.mark.parametrize(
    ("ready", "why"),
    [
        (Ready(port=47114, timeout=1), "nothing listens on port 47114"),
        (Ready(command="bin/show x", timeout=1), "exit status 1 of: bin/show x"),
        (Ready(command="sleep 100", timeout=1), "exit status 137 of: sleep 100"),
    ],
)
def test_a_service_that_is_not_ready_in_time_has_not_started(supervised: Machine, ready: Ready, why: str) -> None:
    machine = supervised
    machine.programs["show"] = "#!/bin/sh\nexit 1\n"
    machine.install(manifest(services=(Service("web", "web", ready=ready),)))
    status, out = machine.run(
        f"""
        rc-service {NAME} start; started=$?; rc-service {NAME} status; echo "status: $?"
        pgrep -fl 's6-|supervise|{NAME}/bin/web' || echo none left
        exit $started
        """
    )
    assert status != 0
    assert f"{NAME}: not ready after 1 seconds: {why}" in out
    assert "status: 3" in out
    assert "none left" in out


def test_a_service_that_dies_again_and_again_is_not_waited_for(supervised: Machine) -> None:
    machine = supervised
    machine.programs["web"] = "#!/bin/sh\nexit 3\n"
    ready = Ready(command="false", timeout=50)
    machine.install(manifest(services=(Service("web", "web", ready=ready),)))
    before = time.monotonic()
    status, out = machine.run(
        f"""
        rc-service {NAME} start; started=$?; rc-service {NAME} status; echo "status: $?"
        pgrep -fl 's6-|supervise' || echo none left
        exit $started
        """
    )
    assert (status, time.monotonic() - before < 30) == (1, True), out
    assert f"{NAME}: not ready: it has died again and again; /var/log/{NAME}/current may say why" in out
    assert "none left" in out


def test_what_is_required_is_said_before_the_start(machine: Machine) -> None:
    variables = [
        {"key": "SECRET", "driver": "generic/secret", "required": True},
        {"key": "mode", "required": True},
        {"key": "A", "default_value": "it's $HOME", "required": True},
    ]
    kits = ({"name": "web", "main": True, "variables": variables},)
    machine.install(replace(manifest(), kits=kits))
    status, out = machine.run(f"rc-service {NAME} start; started=$?; rc-service {NAME} status; exit $started")
    assert status != 0
    assert f"{NAME}: required, and not set: SECRET mode; /etc/{NAME}/env takes lines of KEY=VALUE" in out
    assert "status: stopped" in out
    machine.settings("SECRET=\nmode=m\n")
    assert "A=it's $HOME" in machine.sh(
        f"rc-service {NAME} start; rc-service {NAME} stop; env -i /var/lib/{NAME}/bin/env-exec env"
    )
    machine.settings("SECRET=\nmode=m\nA=theirs\n")
    assert "A=theirs" in machine.sh(f"env -i /var/lib/{NAME}/bin/env-exec env")


def test_supervise_daemon_rotates_the_log(machine: Machine) -> None:
    machine.programs["web"] = "#!/bin/sh\ntrap 'seq 300000' HUP\nwhile :; do sleep 0.1; done\n"
    machine.conf("healthcheck_timer=1\n")
    machine.install(manifest())
    out = machine.sh(
        PID
        + f"""
        rc-service {NAME} start; pid=$(pid); cd /var/log/{NAME}
        for old in 1 2 3 3; do
            sleep 0.3; kill -HUP $pid
            for i in $(seq 100); do [ -s current ] && break; busybox usleep 50000; done
            for i in $(seq 100); do [ -s current ] || break; busybox usleep 50000; done
            cat current.$old | cksum
        done
        [ $pid = $(pid) ]; seq 300000 | cksum; stat -c '%U:%G %a %n' *
        """
    )
    sums = [line for line in out.splitlines() if line.endswith(" 1988895")]
    assert len(sums) == 4 + 1
    assert len(set(sums)) == 1
    files = [line for line in out.splitlines() if "current" in line and line.startswith(NAME)]
    assert files == [f"{NAME}:{NAME} 640 current{number}" for number in ("", ".1", ".2", ".3")]


def test_another_supervisor_takes_over(machine: Machine) -> None:
    machine.programs["web"] = "#!/bin/sh\nexec sleep 1008\n"
    machine.install(manifest())
    text = PID + f"rc-service {NAME} start; pid >/dev/null\n"
    turns = {}
    for supervisor in ("s6", "supervise-daemon"):
        if supervisor == "s6":
            machine.add_s6(CACHE)
        machine.supervisor = supervisor
        files = service_files(machine.with_supervisor(manifest()), NAME)
        for file in files:
            assert file.target is not None
            write(machine.root, Path("next", supervisor) / file.target.relative_to("/"), file.content, file.mode)
        turns[supervisor] = f"cp -a /next/{supervisor}/. /; rc-service {NAME} restart; pid >/dev/null; sleep 0.3; "
        turns[supervisor] += "echo $(pgrep -f 'sleep 1008' | wc -l) under $(pgrep -fl 's6-|supervise')\n"
    out = machine.sh(text + turns["s6"] + turns["supervise-daemon"] + f"rc-service {NAME} stop; ls /run")
    first, second = re.findall(r"^1 under .*$", out, re.MULTILINE)
    assert "s6-log" in first
    assert "supervise-daemon" not in first
    assert re.fullmatch(r"1 under \d+ supervise-daemon", second)
    assert f"{NAME}.s6" not in out


def test_service_mode_chooses(supervised: Machine) -> None:
    machine = supervised
    machine.install(manifest())
    machine.settings("SERVICE_MODE=worker\n")
    out = machine.sh(PID + f"rc-service {NAME} start; tr '\\0' ' ' </proc/$(pid)/cmdline; rc-service {NAME} stop")
    assert "/bin/sleep 1002" in out
    # One that is not there is said at the start, and by the service's own script.
    machine.settings("SERVICE_MODE=wroker\n")
    status, out = machine.run(f"rc-service {NAME} start")
    assert status != 0
    assert "SERVICE_MODE is wroker, and there is no such service: web, worker" in out
    status, out = machine.run(f"/usr/libexec/{NAME}/run")
    assert status == 64
    assert "web, worker" in out
    machine.settings("SERVICE_MODE=\n")
    assert "started" in machine.sh(f"rc-service {NAME} start; sleep 0.3; rc-service {NAME} status")
    (machine.root.path / f"var/lib/{NAME}/bin/web").unlink()
    status, out = machine.run(f"rc-service {NAME} start")
    assert status != 0
    assert f"/var/lib/{NAME}/bin/web is not a program" in out


def test_root_runs_what_says_so(supervised: Machine) -> None:
    machine = supervised
    machine.install(manifest(user="root"))
    out = machine.sh(
        PID
        + f"""
        rc-service {NAME} start; grep Uid /proc/$(pid)/status; sleep 0.3
        rc-service {NAME} stop; rc-service {NAME} show
        """
    )
    assert "Uid:\t0\t0\t0\t0" in out
    assert f"root:root in /var/lib/{NAME}, HOME=/var/lib/{NAME}, USER=root" in machine.log()
    assert f"root\0/var/lib/{NAME}\0/var/lib/{NAME}\0root\0" in out
    status, out = machine.run(f"busybox su -s /bin/sh -c '/var/lib/{NAME}/bin/env-exec id' {NAME}")
    assert (status, out) == (77, f"{NAME}: env-exec must be run by root")


def test_commands_run_as_the_manifest_says(machine: Machine) -> None:
    machine.install(manifest())
    machine.settings("A=from the environment\n")
    (machine.root.path / "etc/rc.conf").write_text("rc_parallel=NO\n")
    shown = "\0".join((NAME, *[f"/var/lib/{NAME}"] * 2, NAME, "from the environment"))
    words = "\0".join(NASTY)
    # In a chroot that OpenRC did not boot, commands run as well.
    for booted in ("", "rm /run/openrc/softlevel\n"):
        status, out = machine.run(booted + f"rc-service {NAME} show")
        assert (status, out) == (0, f"{shown}\0{words}\0")
    assert machine.run(f"rc-service {NAME} fail")[0] == 7
    assert machine.run(f"rc-service {NAME} db-seed") == (0, "seeded")
    status, out = machine.run(f"rc-service {NAME} nonsense")
    assert status != 0
    assert "nonsense" in out
    status, out = machine.run(f"rc-service {NAME} describe")
    assert "show: /var/lib/shop/bin/show" in out
    assert not (machine.root.path / "tmp/owned").exists()


def test_no_word_of_a_call_is_ever_shell(machine: Machine) -> None:
    word = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=12)
    shellish = st.text("'\"\\$`(){}[]*?!#&;|<>~= \t-%a", max_size=12)

    @settings(max_examples=6)
    @given(st.lists(st.lists(word | shellish, max_size=5), min_size=20, max_size=40))
    def check(calls: list[list[str]]) -> None:
        commands = tuple(
            Command(f"c{number}", "b", path="/x", call=" ".join(map(quoted, words)))
            for number, words in enumerate(calls)
        )
        initd = next(file for file in service_files(manifest(commands=commands), NAME) if file.name == f"{NAME}.initd")
        write(machine.root, Path("initd"), initd.content, 0o755)
        script = (
            "_in_terminal() { shift 2; printf '%s\\0' $# \"$@\"; }; for number in $(seq 0 39); do c$number || :; done"
        )
        done = machine.root.run("/bin/sh", "-c", f". /initd; {script} 2>/dev/null")
        printed = "".join(f"{text}\0" for words in calls for text in (len(words) + 1, "/x/b", *words))
        assert done.stdout.decode() == printed
        assert list((machine.root.path / "tmp").iterdir()) == []

    check()


def test_env_exec(machine: Machine) -> None:
    machine.install(manifest())
    machine.settings("A=from the environment\n")
    helper = f"/var/lib/{NAME}/bin/env-exec"
    here = f"{NAME}\0/var/lib/{NAME}\0/var/lib/{NAME}\0{NAME}\0from the environment"
    show = f"/var/lib/{NAME}/bin/show"
    for script, expected in {
        f"{helper} {show} 'a b' '$A'": (0, f"{here}\0a b\0$A\0"),
        f"{helper} -- {show}": (0, f"{here}\0"),
        f"{helper} -- {show} -- x": (0, f"{here}\0--\0x\0"),
        f"{helper} 'echo \"$A\" | tr a-z A-Z; id -un; exit 3'": (3, f"FROM THE ENVIRONMENT\n{NAME}"),
        f"{helper} -- 'echo $A'": (127, None),
        f"{helper}": (64, "usage: env-exec [--] COMMAND ARGUMENT..."),
        f"{helper} --": (64, "usage: env-exec [--] COMMAND ARGUMENT..."),
        f"cd /tmp; chmod 644 /etc/{NAME}/env; busybox su -s /bin/sh -c '{helper} {show} x' {NAME}": (0, f"{here}\0x\0"),
        f"busybox su -s /bin/sh -c '{helper} id' nobody": (77, f"{NAME}: env-exec must be run by {NAME} or root"),
    }.items():
        status, out = machine.run(script)
        assert status == expected[0], (script, out)
        assert expected[1] is None or out == expected[1], script
    # An application's own file of that name stands in nobody's way.
    (machine.root.path / f"var/lib/{NAME}/bin/env-exec").write_text("#!/bin/sh\nexit 99\n")
    (machine.root.path / f"var/lib/{NAME}/bin/environment").write_text("exit 99\n")
    assert machine.run(f"rc-service {NAME} show")[0] == 0
    assert machine.run(f"rc-service {NAME} start")[0] == 0


def test_an_environment_that_cannot_be_had_is_said_at_the_start(machine: Machine) -> None:
    machine.install(manifest())
    # A socket at which nobody listens any more.
    with socket.socket(socket.AF_UNIX) as dead:
        folder = os.open(machine.root.path / "srv", os.O_RDONLY)
        dead.bind(f"/proc/self/fd/{folder}/dead")
        os.close(folder)
    mute = "mkdir /dev/lxd; ln -s /srv/dead /dev/lxd/sock\n"
    for script in (f"rc-service {NAME} start", f"rc-service {NAME} show", f"/usr/libexec/{NAME}/run"):
        status, out = machine.run(mute + script)
        assert status != 0
        assert "user.managed_by: cannot be reached" in out
        assert "there is no environment to run in" in out


def test_commands_keep_the_terminal(machine: Machine) -> None:
    machine.install(manifest())
    for parallel in ("YES", "NO"):
        (machine.root.path / "etc/rc.conf").write_text(f"rc_parallel={parallel}\n")
        near, far = pty.openpty()
        try:
            argv = [*_BWRAP, "--bind", str(machine.root.path), "/", "--proc", "/proc", "--dev", "/dev", "--"]
            done = subprocess.run(
                [*argv, "/sbin/rc-service", NAME, "terminal"],
                stdin=far,
                stdout=far,
                stderr=far,
                timeout=30,
                check=False,
            )
            out = os.read(near, 65536).decode()
        finally:
            os.close(near)
            os.close(far)
        assert done.returncode == 0, out
        assert "all of it" in out.splitlines()


def test_logs_follows_the_log(supervised: Machine) -> None:
    machine = supervised
    machine.install(manifest())
    out = machine.sh(PID + f"rc-service {NAME} start; pid; sleep 0.3; timeout 1 rc-service {NAME} logs || :")
    assert "in /var/lib/shop" in out


def test_s6_rotates_the_log(s6: Machine) -> None:
    s6.programs["web"] = "#!/bin/sh\nseq 1000000\nexec sleep 1006\n"
    s6.install(manifest())
    out = s6.sh(
        f"""
        rc-service {NAME} start
        cd /var/log/{NAME}
        for i in $(seq 100); do tail -n 1 current | grep -q 1000000 && break; busybox usleep 100000; done
        cat @* current | cksum; seq 1000000 | cksum
        stat -c '%U:%G %a %s' . current @*
        """
    ).splitlines()
    sums = [line for line in out if line.endswith(" 6888896")]
    assert len(sums) == 2
    assert sums[0] == sums[1]
    assert f"root:{NAME} 2750 4096" in out
    files = [line.split() for line in out if re.fullmatch(rf"root:{NAME} \d+ \d+", line)][1:]
    assert len(files) == 7
    assert {mode for _, mode, _ in files} <= {"640", "740", "2750"}
    assert max(int(size) for _, _, size in files) < 1_010_000


def test_the_log_is_nobodys_way_to_write_elsewhere(supervised: Machine) -> None:
    machine = supervised
    machine.install(manifest())
    machine.sh(f"mkdir /var/log/{NAME}; ln -s /etc/target /var/log/{NAME}/current; chown -R {NAME} /var/log/{NAME}")
    out = machine.sh(
        PID + f"rc-service {NAME} start; pid; sleep 0.3; cd /var/log/{NAME}; stat -c '%U:%G %a %F' . current"
    )
    assert not (machine.root.path / "etc/target").exists()
    if machine.supervisor == "s6":
        assert f"root:{NAME} 2750 directory\nroot:{NAME} 640 regular file" in out
    else:
        assert f"root:root 755 directory\n{NAME}:{NAME} 640 regular file" in out


def test_commands_without_services(machine: Machine) -> None:
    machine.install(manifest(services=()))
    assert machine.run(f"rc-service {NAME} db-seed")[1].endswith("seeded")
    machine.sh(f"rc-service {NAME} start; rc-service {NAME} status; rc-service {NAME} stop")

"""The services, one after the other, and the commands beside the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from shlex import quote as sh

from pakman import manifest as manifests
from pakman.checks import Check, Checks, Subject, last_words, worth_reading
from pakman.checks.install import needs_variables
from pakman.runroots import Ran, RunRoot
from pakman.service import has_service

STAYS = 3
"""Seconds that a service has to stay what it is after its start."""
PATIENCE = 30
"""Seconds that the main kit's port has to answer within."""
_ELSEWHERE = 5
"""Seconds after which that is enough, where the service listens, and on other ports only."""
KILLED_AFTER = 20
"""Seconds that the service's script gives a program to end (`retry`)."""
COMMAND_SECONDS = 10.0
"""For a command: what still runs then, as a console would, is ended."""
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_LOGGED = "/pakman/logged"
"""In the root: which file the log was when the service was started, and its size."""


def environment(subject: Subject, mode: str = "") -> str:
    """Return the script that writes /etc/NAME/env as an administrator would; nothing, where there is nothing for it."""
    content = subject.manifest.test.env_file() + (f"SERVICE_MODE={mode}\n" if mode else "")
    folder = sh(f"/etc/{subject.name}")
    if not content or not has_service(subject.manifest):
        return f"rm -f {folder}/env"
    return f"(umask 077; mkdir -p {folder}; printf %s {sh(content)} >{folder}/env)"


def pid(subject: Subject) -> str:
    """Return two shell functions: `pid` prints the number of the service's process, whatever supervises it.

    `settled` waits for it first: what the supervisor starts becomes the service once it has the environment, on a busy
    machine after a while.
    """
    name = sh(subject.name)
    return f"""
        pid() {{
            cat /run/openrc/options/{name}/child_pid 2>/dev/null || s6-svstat -o pid /run/{name}.s6/{name} 2>/dev/null
        }}
        settled() {{
            for _ in $(seq 150); do
                # Without a number, it would be the kernel's own command line.
                process=$(pid)
                case "$(tr '\\0' ' ' <"/proc/${{process:-none}}/cmdline")" in
                *libexec/{subject.name}/* | *./run* | *'busybox su'* | *supervise-daemon* | '') ;;
                *) break ;;
                esac 2>/dev/null
                [ -L /run/openrc/started/{name} ] || break
                sleep 0.2
            done
            pid
        }}
    """


def all_run(root: RunRoot, subject: Subject) -> Checks:
    """Start and stop each service; leave the first one running, where it does."""
    if not subject.services:
        return False
    if subject.missing_variables:
        reason = f"not tested: {needs_variables(subject)}"
        yield Check("the services start", "skipped", path="run.services", reason=reason)
        return False
    for number, service in list(enumerate(subject.services))[1:]:
        if (yield from _starts(root, subject, number, service)):
            yield _stops(root, subject, number, service)
    if not (yield from _starts(root, subject, 0, subject.services[0])):
        return False
    yield _stops(root, subject, 0, subject.services[0])
    return start(root, subject).status == 0


def start(root: RunRoot, subject: Subject, mode: str = "") -> Ran:
    """Start a service anew."""
    name = sh(subject.name)
    ready = max((service.ready.timeout for service in subject.services if service.ready is not None), default=0)
    script = f"""
        rc-service --ifstarted {name} stop
        {environment(subject, mode)}
        stat -c '%i %s' /var/log/{name}/current >{_LOGGED} 2>/dev/null || :
        rc-service {name} start
    """
    return root.run(script, _START_SECONDS + ready)


def _starts(root: RunRoot, subject: Subject, number: int, service: manifests.Service) -> Checks:
    path = f"run.services[{number}]"
    name = f"{service.name} starts and is up {STAYS} seconds later"
    started = start(root, subject, service.name if number else "")
    if started.status != 0:
        yield _not_started(root, subject, Check(name, "failed", started.seconds, path), service, started)
        return False
    script = f"""
        {pid(subject)}
        first=$(settled)
        sleep {STAYS}
        second=$(pid)
        rc-service {sh(subject.name)} status >/dev/null 2>&1 &&
            [ -n "$first" ] && [ "$first" = "$second" ] && kill -0 "$first"
    """
    stayed = root.run(script, _START_SECONDS)
    seconds = started.seconds + stayed.seconds
    if stayed.status != 0:
        yield _ended(root, subject, Check(name, "failed", seconds, path), service)
        root.run(f"rc-service {sh(subject.name)} stop", _STOP_SECONDS)
        return False
    yield Check(name, "passed", seconds, path)
    if number == 0:
        return (yield from _answers(root, subject, service))
    return True


def _ended(root: RunRoot, subject: Subject, failed: Check, service: manifests.Service) -> Check:
    """Say that a service did not stay, and of how it ended all that its supervisor and its log tell."""
    name = sh(subject.name)
    # s6 keeps it; OpenRC's own tells it to syslog, if there is one.
    script = f"""
        s6-svdt /run/{name}.s6/{name} 2>/dev/null | tail -n 1
        [ -e /run/{name}.s6 ] ||
            grep -sE 'supervise-daemon.*(exited with return code|by signal) ' /var/log/messages | tail -n 1
    """
    said = "".join(root.run(script, _STOP_SECONDS).lines[-1:])
    match = re.search(r" (exitcode|return code|signal) (\w+)$", said)
    how = "" if match is None else f" {'on signal' if match[1] == 'signal' else 'with exit status'} {match[2]}"
    log = _log(root, subject)
    silent = "" if log else ", without a word in its log"
    return replace(failed, reason=f"{service.name} ended by itself{how}{silent}", lines=log)


def _not_started(root: RunRoot, subject: Subject, failed: Check, service: manifests.Service, ran: Ran) -> Check:
    if ran.status is None:
        reason = f"`rc-service {subject.name} start` has not ended after {ran.seconds:.0f} seconds"
        return replace(failed, reason=reason, lines=worth_reading(ran.lines))
    said = [line.strip() for line in ran.lines if line.startswith(f"{subject.name}: ")]
    reason = (said[-1].partition(": ")[2] if said else last_words(ran.lines)) or "OpenRC gives no reason"
    if "died again and again" in reason:
        return _ended(root, subject, failed, service)
    path = failed.path
    if "not ready after" in reason:
        path = f"{path}.ready"
    elif "is not a program" in reason:
        path = f"{path}.binary"
        reason += _of_mode(root, reason)
    return replace(failed, path=path, reason=reason, lines=(*worth_reading(ran.lines), *_log(root, subject)))


def _answers(root: RunRoot, subject: Subject, service: manifests.Service) -> Checks:
    """Connect to the main kit's port, unless the start has waited for something that says more."""
    port = manifests.main_port(subject.manifest)
    if port is None or service.ready is not None:
        return True
    name = f"{service.name} answers on port {port}"
    path = _port_path(subject)
    script = f"""
        listening() {{
            cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
                awk '$4 == "0A" {{ print substr($2, length($2) - 3) }}' | sort -u | while read -r port; do
                    printf '%d ' 0x$port
                done
        }}
        elsewhere=0
        for _ in $(seq {PATIENCE * 5}); do
            nc -z -w 2 127.0.0.1 {port} </dev/null && exit 0
            nc -z -w 2 ::1 {port} </dev/null && exit 0
            [ -z "$(listening)" ] || elsewhere=$((elsewhere + 1))
            [ $elsewhere -lt {_ELSEWHERE * 5} ] || break
            sleep 0.2
        done 2>/dev/null
        echo "$(listening)"
        exit 1
    """
    ran = root.run(script, PATIENCE * 6)
    if ran.status == 0:
        yield Check(name, "passed", ran.seconds, path)
        return True
    ports = ", ".join("".join(ran.lines[-1:]).split())
    reason = (
        f"nothing answers on port {port} of the main kit; {f'it listens on {ports}' if ports else 'it listens on none'}"
    )
    yield Check(name, "failed", ran.seconds, path, reason, _log(root, subject))
    return True


def _port_path(subject: Subject) -> str:
    """Return the manifest path of the port that manifest.main_port returns."""
    kit = manifests.main_kit(subject.manifest)
    number = next(index for index, each in enumerate(subject.manifest.kits) if each is kit)
    ports = [(index, each) for index, each in enumerate(kit.get("ports") or ()) if each.get("target")]
    index = next((index for index, each in ports if each.get("main")), ports[0][0])
    return f"kits[{number}].ports[{index}].target"


def _stops(root: RunRoot, subject: Subject, number: int, service: manifests.Service) -> Check:
    path = f"run.services[{number}]"
    path = f"{path}.stop" if service.stop != manifests.Stop() else path
    name = f"{service.name} stops"
    script = f"""
        rc-service {sh(subject.name)} stop || exit 9
        rc-service {sh(subject.name)} status >/dev/null 2>&1 && {{ echo 'it is still up'; exit 9; }}
        {nobody_left(subject)}
    """
    ran = root.run(script, _STOP_SECONDS)
    if ran.status == 0 and ran.seconds > KILLED_AFTER:
        reason = f"it took {ran.seconds:.0f} seconds: what does not end by itself within {KILLED_AFTER} is killed"
        return Check(name, "warning", ran.seconds, path, reason)
    if ran.status == 0:
        return Check(name, "passed", ran.seconds, path)
    reason = last_words(ran.lines) or "OpenRC gives no reason"
    if ran.status is None:
        reason = f"`rc-service {subject.name} stop` has not ended after {_STOP_SECONDS:.0f} seconds"
    return Check(name, "failed", ran.seconds, path, reason, worth_reading(ran.lines))


def nobody_left(subject: Subject) -> str:
    """Return a script whose status is 9 where processes of the package's user, or its supervisor, do not go."""
    name = subject.name
    # Who ran as root cannot be told from others by the user alone.
    return f"""
        uid=$(id -u {sh(name)} 2>/dev/null) || uid=none
        for try in 0 1 2 3 4 5 6 7 8 9; do
            left=
            for status in /proc/[0-9]*/status; do
                process=${{status%/status}}
                # It may end while it is looked at.
                words=$(2>/dev/null tr '\\0' ' ' <$process/cmdline) && [ -n "$words" ] || continue
                case "$words" in
                */usr/libexec/{name}/* | *supervise-daemon\\ {name}\\ * | *s6-*/run/{name}.s6*) left="$left; $words" ;;
                *) ! grep -qE "^Uid:.$uid[^0-9]" $status 2>/dev/null || left="$left; $words" ;;
                esac
            done
            [ -n "$left" ] || break
            sleep 0.5
        done
        [ -z "$left" ] || {{ echo "still there: ${{left#; }}"; exit 9; }}
    """


def commands_run(root: RunRoot, subject: Subject) -> Iterator[Check]:
    """Run each command without input: that it is there is a promise; what it says without a database is its affair."""
    commands = subject.manifest.run.commands if subject.manifest.run is not None else ()
    for number, command in enumerate(commands):
        path = f"run.commands[{number}]"
        name = f"rc-service {subject.name} {command.name} runs"
        if subject.missing_variables:
            yield Check(name, "skipped", path=path, reason=f"not tested: {needs_variables(subject)}")
            continue
        ran = root.run(f"rc-service {sh(subject.name)} {sh(command.name)}", COMMAND_SECONDS)
        yield _of_command(root, ran, name, path)


def _of_command(root: RunRoot, ran: Ran, name: str, path: str) -> Check:
    lines = worth_reading(ran.lines)
    if ran.status == 0:
        return Check(name, "passed", ran.seconds, path)
    if ran.status is None:
        reason = f"it still ran after {COMMAND_SECONDS:.0f} seconds, and was ended"
        return Check(name, "passed", ran.seconds, path, reason)
    if any(_UNKNOWN_COMMAND.search(line) for line in lines):
        reason = "the package was built from another manifest, which has no such command: build it again"
        return Check(name, "failed", ran.seconds, path, reason, lines)
    if ran.status in (126, 127):
        reason = "there is no such program" if ran.status == 127 else "it is not a program that can be run"
        reason = f"{reason}: {last_words(lines)}{_of_mode(root, last_words(lines))}"
        return Check(name, "failed", ran.seconds, f"{path}.binary", reason, lines)
    return Check(name, "warning", ran.seconds, path, f"it ended with exit status {ran.status} in a clean root", lines)


_UNKNOWN_COMMAND = re.compile(r"openrc-run\.sh: line \d+: \S+: not found|ERROR: unknown function")


def _of_mode(root: RunRoot, said: str) -> str:
    """Return what to do where one of the words of an error is a file that nobody may execute."""
    words = [word.rstrip(":") for word in said.split() if word.startswith("/")]
    script = "\n".join(f"[ ! -f {sh(word)} ] || [ -x {sh(word)} ] || exit 9" for word in words)
    if root.run(script, COMMAND_SECONDS).status != 9:
        return ""
    return "; it is not executable: `chmod +x` it (`git update-index --chmod=+x` where it comes from git)"


def _log(root: RunRoot, subject: Subject) -> tuple[str, ...]:
    """Return what the service has logged since `start`: what is above is another service's."""
    script = f"""
        cd /var/log/{sh(subject.name)} && [ -f current ] || exit 0
        inode='' size=0
        read -r inode size <{_LOGGED}
        [ "$(stat -c %i current)" = "$inode" ] && [ "$(stat -c %s current)" -ge "$size" ] || size=0
        tail -c +$((size + 1)) current | tail -n 20
    """
    return worth_reading(root.run(script, _STOP_SECONDS).lines)

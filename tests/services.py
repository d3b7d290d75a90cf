"""A package's service in an Alpine root: installed as apk would, and run under the real OpenRC."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Literal

from pakman.manifest import Command, Manifest, Run, Service
from pakman.service import install_scripts, service_files
from tests.integration.conftest import AlpineRoot
from tests.standins import older_openrc_tree, s6_tree


def small_copy(pristine: Path, path: Path) -> AlpineRoot:
    """A private copy of the root without the kernel and its modules, two thirds of it."""
    shutil.copytree(pristine, path, symlinks=True, ignore=shutil.ignore_patterns("boot", "modules"))
    return AlpineRoot(path)


def write(root: AlpineRoot, path: PurePath, content: str, mode: int) -> None:
    whole = root.path / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_text(content)
    whole.chmod(mode)


def install(root: AlpineRoot, manifest: Manifest, name: str, programs: dict[str, str] | None = None) -> None:
    """Install the service's files, the application's programs and the install scripts; run pre-install."""
    for file in service_files(manifest, name):
        assert file.target is not None
        write(root, file.target.relative_to("/"), file.content, file.mode)
    for program, content in (programs or {}).items():
        write(root, Path(f"var/lib/{name}/bin/{program}"), content, 0o755)
    for script in install_scripts(manifest, name):
        write(root, Path("scripts") / script.name, script.content, script.mode)
    root.sh(f"/scripts/{name}.pre-install 1.0; mkdir -p /var/lib/{name}; chown -R {name}:{name} /var/lib/{name}")


NAME = "shop"
BOOTED = "rm -rf /run/openrc; mkdir -p /run/openrc; touch /run/openrc/softlevel; exec 2>&1\n"

NASTY = (
    "it's",
    'a "b"',
    "$HOME",
    "$(touch /tmp/owned)",
    "`id`",
    "*",
    "a;b",
    "",
    " ",
    "-p",
    "\\",
    "ü",
    "#",
    "!x",
    "{a,b}",
)
"""Words that a shell would change if it saw them."""

# Says what it is and goes on until a signal comes; its child ignores TERM.
WEB = r"""#!/bin/sh
echo "web $$ $(id -un):$(id -gn) in $PWD, HOME=$HOME, USER=$USER, MODE=${SERVICE_MODE:-}, PATH=$PATH"
for word in "$@"; do echo "word <$word>"; done
echo "to stderr" >&2
echo "again" >>/dev/stderr
readlink /proc/self/fd/0
sh -c 'trap "" TERM; exec sleep 1001' &
trap 'echo terminated; exit 0' TERM
while :; do /bin/busybox usleep 50000; done
"""


def quoted(word: str) -> str:
    return "'" + word.replace("'", "'\"'\"'") + "'"


def manifest(**changes: object) -> Manifest:
    run = Run(
        name=NAME,
        services=(
            Service("web", "web", call=" ".join(map(quoted, NASTY))),
            Service("worker", "sleep", path="/bin", call="1002"),
        ),
        commands=(
            Command("show", "show", call=" ".join(map(quoted, NASTY))),
            Command("fail", "sh", path="/bin", call="-c 'exit 7'"),
            Command("db-seed", "echo", path="/bin/", call="seeded"),
            Command("terminal", "sh", path="/bin", call="-c 'test -t 0 && test -t 1 && test -t 2 && echo all of it'"),
        ),
    )
    return Manifest(run=replace(run, **changes))  # type: ignore[arg-type]


SHOW = r"""#!/bin/sh
printf '%s\0' "$(id -un)" "$PWD" "$HOME" "$USER" "$A" "$@"
"""


@dataclass
class Machine:
    """A root in which the package's files are installed and OpenRC thinks that it booted."""

    root: AlpineRoot
    programs: dict[str, str] = field(default_factory=lambda: {"web": WEB, "show": SHOW})
    supervisor: Literal["s6", "supervise-daemon"] = "supervise-daemon"

    def install(self, manifest: Manifest) -> None:
        install(self.root, self.with_supervisor(manifest), NAME, self.programs)

    def with_supervisor(self, manifest: Manifest) -> Manifest:
        assert manifest.run is not None
        return replace(manifest, run=replace(manifest.run, supervisor=self.supervisor))

    def add_s6(self, cache: Path) -> None:
        """Let s6 supervise what is installed from now on."""
        self._add(s6_tree(cache))
        self.supervisor = "s6"

    def add_older_openrc(self, cache: Path) -> None:
        self._add(older_openrc_tree(cache))

    def _add(self, tree: Path) -> None:
        subprocess.run(["cp", "-a", "--remove-destination", f"{tree}/.", str(self.root.path)], check=True)

    def settings(self, text: str) -> None:
        write(self.root, Path(f"etc/{NAME}/env"), text, 0o600)

    def conf(self, text: str) -> None:
        write(self.root, Path(f"etc/conf.d/{NAME}"), text, 0o644)

    def log(self) -> str:
        return (self.root.path / f"var/log/{NAME}/current").read_text()

    def run(self, script: str) -> tuple[int, str]:
        """Run a script as on a booted machine; its processes end with it."""
        # From a file: what a search among the running processes finds shall not be the script itself.
        write(self.root, Path("script"), BOOTED + script, 0o755)
        done = self.root.run("/bin/sh", "/script", timeout=60)
        noise = ("cgroup", "Caching service dependencies", "non existent service 'dev'")
        lines = done.stdout.decode().splitlines()
        return done.returncode, "\n".join(line for line in lines if not any(word in line for word in noise))

    def sh(self, script: str) -> str:
        status, out = self.run("set -e\n" + script)
        assert status == 0, out
        return out


def pid_of(name: str) -> str:
    """Return shell functions: `pid` prints the supervised process, once it is the service itself; `gone PID` waits."""
    return f"""
pid() {{
    for i in $(seq 100); do
        pid=$(cat /run/openrc/options/{name}/child_pid 2>/dev/null) ||
            pid=$(s6-svstat -o pid /run/{name}.s6/{name} 2>/dev/null) || pid=0
        words=$(tr '\\0' ' ' </proc/${{pid:-0}}/cmdline) 2>/dev/null || words=
        case "$words" in
        *libexec* | *./run* | *"busybox su"* | *supervise-daemon* | "") busybox usleep 50000 ;;
        *) echo $pid; return ;;
        esac
    done
    echo "no service"; ps; exit 9
}}
gone() {{
    for i in $(seq 100); do kill -0 $1 2>/dev/null || return 0; busybox usleep 50000; done
    echo "$1 is still there"; exit 9
}}
"""


PID = pid_of(NAME)

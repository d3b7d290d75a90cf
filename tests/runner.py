"""GitHub's runner, as far as it runs a Docker container action: mounts, environment, uids, file commands, the log.

Source: the runner's ContainerActionHandler (mounts, translated paths), Handler (inputs), DockerCommandManager.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.demo import parsed
from tests.engine import Engine

RUNNER_ID = 1001
"""The uid and gid of a hosted runner's user."""
COMMAND = re.compile(r"^\s*(?:::|##\[)(?P<name>[a-z-]+)(?P<properties> [^:]*)?(?:::|\])(?P<value>.*)$")
"""A line that the runner takes for a command: white space before it does not matter."""


@dataclass(frozen=True)
class Step:
    """A step that ran to its end."""

    status: int
    log: str
    """stdout and stderr, as one."""
    outputs: Mapping[str, str]
    summary: str

    def commands(self, name: str) -> list[str]:
        """Return the log's workflow commands of one name, as the runner would see them: `properties value`."""
        found: list[str] = []
        stopped_by = ""
        for line in self.log.splitlines():
            match = COMMAND.match(line)
            if stopped_by:
                stopped_by = "" if line.strip() == f"::{stopped_by}::" else stopped_by
            elif match is not None and match["name"] == "stop-commands":
                stopped_by = match["value"]
            elif match is not None and match["name"] == name:
                found.append(f"{(match['properties'] or '').strip()} {match['value']}".strip())
        return found


@dataclass(frozen=True)
class Job:
    """A job with one checkout, in a folder of its own, with all that the runner mounts."""

    engine: Engine
    image: str
    folder: Path

    @property
    def workspace(self) -> Path:
        """Where actions/checkout has left the repository."""
        return self.folder / _MOUNTED["workspace"]

    @property
    def home(self) -> Path:
        """What is HOME to all container actions of the job."""
        return self.folder / _MOUNTED["home"]

    def step(
        self,
        inputs: Mapping[str, str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        event: Mapping[str, object] | None = None,
        event_name: str = "push",
    ) -> Step:
        """Run the action with these inputs, to its end."""
        with self.running(inputs, env=env, event=event, event_name=event_name) as running:
            log, _ = running.process.communicate(timeout=300)
            return running.ended(log)

    @contextmanager
    def running(
        self,
        inputs: Mapping[str, str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        event: Mapping[str, object] | None = None,
        event_name: str = "push",
    ) -> Iterator[Running]:
        """Run the action with these inputs; at the end of the block its container is gone."""
        name = f"pakman-test-{secrets.token_hex(6)}"
        commands = self.folder / _MOUNTED["file_commands"]
        files = {
            f"GITHUB_{kind}": f"{kind.lower()}_{name}" for kind in ("OUTPUT", "STEP_SUMMARY", "ENV", "PATH", "STATE")
        }
        self._write(*((commands / file, "") for file in files.values()))
        self._write((self.folder / _MOUNTED["workflow"] / "event.json", json.dumps(event or {})))
        environment = {
            **{f"INPUT_{key.upper()}": value for key, value in (inputs or {}).items()},
            **_RUNNER,
            **{variable: f"/github/file_commands/{file}" for variable, file in files.items()},
            "GITHUB_SHA": self.git("rev-parse", "HEAD"),
            "GITHUB_EVENT_NAME": event_name,
            **(env or {}),
        }
        mounts = [f"--volume={self.engine.socket}:/var/run/docker.sock"]
        mounts += [f"--volume={self.folder / place}:/github/{name}" for name, place in _MOUNTED.items()]
        process = subprocess.Popen(
            [
                shutil.which("docker") or "docker",
                "run", f"--name={name}", "--rm", "--workdir=/github/workspace", "--network=host", *mounts,
                # Names alone, as the runner does: what docker itself finds in its environment.
                *(f"--env={key}" for key in environment), self.image,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**environment, "DOCKER_HOST": self.engine.env["DOCKER_HOST"]},
        )  # fmt: skip
        try:
            yield Running(
                self.engine, name, process, commands / files["GITHUB_OUTPUT"], commands / files["GITHUB_STEP_SUMMARY"]
            )
        finally:
            self.engine.run("rm", "--force", name)
            process.kill()
            process.communicate()

    def _write(self, *files: tuple[Path, str]) -> None:
        for path, content in files:
            path.write_text(content)
            os.chown(path, RUNNER_ID, RUNNER_ID)

    def git(self, *argv: str) -> str:
        """Run git in the workspace, whoever that belongs to; return what it wrote."""
        done = subprocess.run(
            ["git", "-c", f"safe.directory={self.workspace}", *argv],
            cwd=self.workspace,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", **_IDENTITY},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def owned_by_root(self) -> list[str]:
        """Return what the runner, which is not root, has no right to remove after the job."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.lstat().st_uid == 0)


@dataclass(frozen=True)
class Running:
    """A step that runs."""

    engine: Engine
    name: str
    process: subprocess.Popen[str]
    output_file: Path
    summary_file: Path

    def ended(self, log: str) -> Step:
        """Return what there is of the step, whose log was read to the end."""
        return Step(self.process.wait(), log, parsed(self.output_file.read_text()), self.summary_file.read_text())


_MOUNTED = {
    "runner_temp": "_temp",
    "home": "_temp/_github_home",
    "workflow": "_temp/_github_workflow",
    "file_commands": "_temp/_runner_file_commands",
    "workspace": "shop/shop",
}
"""What is mounted below /github, and where it is in the folder that the runner works in."""

_IDENTITY = {f"GIT_{who}_{what}": f"{who}@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

_RUNNER = {
    # An earlier step has changed it for the job: none of this exists in a container of Alpine's.
    "PATH": "/opt/hostedtoolcache/node/22/x64/bin:/home/runner/.local/bin:/usr/bin:/bin",
    "HOME": "/github/home",
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_WORKSPACE": "/github/workspace",
    "GITHUB_EVENT_PATH": "/github/workflow/event.json",
    "GITHUB_REPOSITORY": "acme/shop",
    "GITHUB_REPOSITORY_OWNER": "acme",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_RUN_NUMBER": "7",
    "GITHUB_RUN_ID": "1234567890",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_API_URL": "https://api.github.com",
    "RUNNER_OS": "Linux",
    "RUNNER_TEMP": "/github/runner_temp",
    "RUNNER_TOOL_CACHE": "/opt/hostedtoolcache",
    "RUNNER_WORKSPACE": "/home/runner/work/shop",
    "PYTHONPATH": "/opt/hostedtoolcache/python",
    "LD_LIBRARY_PATH": "/opt/hostedtoolcache/Python/3.13/x64/lib",
    "ACTIONS_RUNTIME_TOKEN": "runtime-token-of-the-job",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "id-token-of-the-job",
}


def job(engine: Engine, image: str, folder: Path, files: Mapping[str, str], *, copied: Path | None = None) -> Job:
    """Return a job whose workspace holds these files and a folder's content, committed and tagged v1.0.0."""
    made = Job(engine, image, folder)
    for place in _MOUNTED.values():
        (folder / place).mkdir(parents=True)
    if copied is not None:
        subprocess.run(["cp", "-a", f"{copied}/.", str(made.workspace)], check=True)
    for name, content in files.items():
        (made.workspace / name).write_text(content)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message=first")
    made.git("tag", "v1.0.0")
    subprocess.run(["chown", "--recursive", f"{RUNNER_ID}:{RUNNER_ID}", str(folder)], check=True)
    return made

"""The action's entrypoint as a real process, told what GitHub's runner tells a container: all but the container."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pakman import signing
from pakman.bucket import Bucket, Location
from pakman.channels import Channel, adding
from tests import instellar_service
from tests.building import contents, must_go
from tests.integration.conftest import CACHE
from tests.packages import key as key_called
from tests.repositories import signed_repository
from tests.servers import S3Server
from tests.test_github import commands, parse_outputs

pytestmark = [pytest.mark.alpine, pytest.mark.s3, pytest.mark.git]

ENTRYPOINT = Path(__file__).parents[2] / "entrypoint.py"
RUNNER = 59_001
"""A uid that is nobody's here, as the runner's is nobody's in the container."""
TOKEN = "ghs_a-token-of-the-runner-s-0123456789"

CURIOUS = """
    echo '::set-output name=version::9.9.9'
    echo '::add-mask::shop'
    echo '  ##[add-path]/tmp'
    printf '50%%\\r::error::not ours\\n'
    mkdir -p out
    env > out/environment
    { cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; find / -xdev -name '*.rsa' -type f; } > out/found 2>/dev/null || :
    ls -l /github /var/run/docker.sock "$GITHUB_OUTPUT" >> out/found 2>/dev/null || :
    echo name=evil >> "$GITHUB_OUTPUT" || :
"""


@dataclass
class Job:
    """A step of a job: its workspace, files and variables."""

    folder: Path
    key: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def file(self, name: str) -> Path:
        return self.folder / name

    def commit(self, build: str, **more: str) -> None:
        """Make the workspace a checkout of an application with this build command, tagged v1.2.3, of the runner's."""
        lines = "".join(f"{name}: {value}\n" for name, value in more.items())
        self.workspace.joinpath("instellar.yml").write_text(
            f"stack: alpine/3.23\n{lines}build:\n  command: |\n{build}\n  destinations: [out]\nrun:\n  name: shop\n"
        )
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
        for argv in (
            ["init", "--quiet"],
            ["config", "http.extraheader", f"AUTHORIZATION: basic {TOKEN}"],
            ["add", "--all"],
            ["commit", "--quiet", "--message=first"],
            ["tag", "v1.2.3"],
        ):
            subprocess.run([*git, *argv], cwd=self.workspace, env={"PATH": os.environ["PATH"]}, check=True)
        subprocess.run(["chown", "-R", f"{RUNNER}:{RUNNER}", str(self.folder)], check=True)

    def start(self, inputs: Mapping[str, str], env: Mapping[str, str], *prefix: str) -> subprocess.Popen[str]:
        given = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
        return subprocess.Popen(
            [*prefix, sys.executable, "-P", str(ENTRYPOINT)],
            cwd="/",
            env={**self.env, **given, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *, inputs: Mapping[str, str], env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run the step to its end; return its status and all that it wrote."""
        with self.start(inputs, env or {}) as process:
            said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def outputs(self) -> dict[str, str]:
        return parse_outputs(self.file("outputs").read_text())

    def summary(self) -> str:
        return self.file("summary").read_text()

    def assert_nothing_is_roots(self) -> None:
        """Nothing in the workspace belongs to root, and no build has left anything behind."""
        assert [path for path in self.workspace.rglob("*") if path.lstat().st_uid != RUNNER] == []
        assert list(self.workspace.rglob(".building-*")) == []


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A private key as a secret store has it."""
    private, _ = signing.keygen(tmp_path_factory.mktemp("keys"), "acme-shop.rsa.pub")
    return private.read_text()


@pytest.fixture
def job(tmp_path: Path, key: str) -> Iterator[Job]:
    """A job on a push, in an environment that an earlier step has mangled."""
    tmp_path.chmod(0o755)
    made = Job(tmp_path / "job", key)
    made.workspace.mkdir(parents=True)
    evil = made.workspace / "node_modules/.bin"
    evil.mkdir(parents=True)
    for name in ("git", "bwrap", "sh", "cp"):
        (evil / name).write_text("#!/bin/sh\ntouch /tmp/pakman-was-fooled\nexit 1\n")
        (evil / name).chmod(0o755)
    for name in ("outputs", "summary", "event.json"):
        made.file(name).write_text("{}" if name.endswith("json") else "")
    made.env = {
        "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(made.workspace),
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_EVENT_NAME": "push", "GITHUB_EVENT_PATH": str(made.file("event.json")), "GITHUB_RUN_NUMBER": "7",
        "GITHUB_OUTPUT": str(made.file("outputs")), "GITHUB_STEP_SUMMARY": str(made.file("summary")),
        "ACTIONS_RUNTIME_TOKEN": TOKEN, "GITHUB_TOKEN": TOKEN, "HOME": "/nowhere/home", "TMPDIR": "/nowhere/tmp",
        "PATH": f"node_modules/.bin:{evil}:/nowhere", "GIT_DIR": "/nowhere",
        "INPUT_BUILD-ROOT": "sandbox", "INPUT_BUILDER": "embedded", "INPUT_CACHE-DIR": str(CACHE),
        "INPUT_TEST": "false",
    }  # fmt: skip
    yield made
    assert not Path("/tmp/pakman-was-fooled").exists()


@pytest.fixture
def shipping(job: Job, s3_server: S3Server) -> dict[str, str]:
    """The inputs of a step that ships."""
    bucket = f"entrypoint-{secrets.token_hex(6)}"
    s3_server.client().create_bucket(Bucket=bucket)
    return {
        "bucket": f"s3://{bucket}",
        "prefix": "apk",
        "endpoint-url": s3_server.endpoint,
        "region": "us-east-1",
        "signing-key": job.key,
        "access-key-id": s3_server.access_key_id,
        "secret-access-key": s3_server.secret_access_key,
    }


def hidden(job: Job, shipping: Mapping[str, str]) -> list[str]:
    """All that nobody may read: the keys' lines, the keys in base64, the credentials, the runner's token."""
    keys = [job.key, shipping.get("previous-signing-key", "")]
    lines = [line for key in keys for line in key.splitlines() if "PRIVATE KEY" not in line and "Name" not in line]
    encoded = [base64.b64encode(key.encode()).decode() for key in keys if key]
    return [*lines, *encoded, *(text[:60] for text in encoded), shipping["secret-access-key"], TOKEN]


def test_a_push_ships_and_a_curious_build_learns_and_changes_nothing(
    job: Job, shipping: dict[str, str], s3_server: S3Server
) -> None:
    job.commit(CURIOUS)
    earlier, _ = signing.rotate(job.folder, "acme", "shop")
    shipping["previous-signing-key"] = earlier.read_text()
    earlier.unlink()
    status, said = job.run(inputs=shipping)
    assert status == 0, said
    job.assert_nothing_is_roots()

    found = commands(said)
    assert {name for name, _, _ in found} == {"add-mask", "group", "endgroup"}
    assert not any(message == "shop" for _, _, message in found)
    assert "> ::set-output name=version::9.9.9" in said
    first = next(number for number, line in enumerate(said.splitlines()) if not line.startswith("::add-mask::"))
    assert said.splitlines()[first].startswith("pakman run --output=packages --bucket=s3://")

    outputs, summary = job.outputs(), job.summary()
    assert set(outputs) == {
        "name", "version", "arch", "stack", "packages", "package-dir", "manifest-file", "checksums", "repository-path",
        "repository-url", "public-key-path", "public-key-url", "key-name", "skipped", "test-result", "test-skipped",
        "deployment-status", "commit",
    }  # fmt: skip
    assert (outputs["name"], outputs["version"], outputs["skipped"]) == ("shop", "1.2.3-r7", "")
    assert outputs["repository-path"].startswith("apk/deployments/acme/shop/")
    assert outputs["repository-url"].endswith(outputs["repository-path"])
    folder = job.workspace / outputs["package-dir"]
    sums = subprocess.run(["sha256sum", "--check"], input=outputs["checksums"], text=True, cwd=folder, check=False)
    assert sums.returncode == 0
    assert json.loads((job.workspace / outputs["manifest-file"]).read_text())["packages"] == json.loads(
        outputs["packages"]
    )
    assert f"echo {outputs['repository-url']} >> /etc/apk/repositories" in summary
    assert "- Stack: `alpine/3.23`" in summary
    assert "- Duration: `" in summary
    assert f"- stored: `{outputs['public-key-path']}`" in summary
    assert outputs["key-name"] == "acme-shop.rsa.pub"
    assert f"- stored: `apk/keys/{earlier.name}.pub`" in summary
    assert not any(message in f"{earlier.name}.pub" for name, _, message in found if name == "add-mask")

    logged = "\n".join(line for line in said.splitlines() if not line.startswith("::add-mask::"))
    everything = [logged, summary, job.file("outputs").read_text()]
    for package in folder.rglob("*.apk"):
        everything += [(body or b"").decode("latin-1") for body in contents(package).values()]
    for secret in hidden(job, shipping):
        assert not any(secret in text for text in everything)
        assert secret == TOKEN or f"::add-mask::{secret}" in said

    released(job, shipping, outputs)


def released(job: Job, shipping: dict[str, str], pushed: dict[str, str]) -> None:
    """Make a release in a job after it, which has checked nothing out."""
    elsewhere, secret = job.folder / "elsewhere", "a-secret-that-a-receiver-knows"
    elsewhere.mkdir()
    job.file("outputs").write_text("")
    with instellar_service.running(instellar_service.Receiver({})) as receiver:
        more = {"command": "release", "expect": pushed["arch"], "channel": "stable", "notify-url": receiver.endpoint}
        status, said = job.run(
            inputs=shipping | more | {"notify-secret": secret},
            env={"GITHUB_WORKSPACE": str(elsewhere), "GITHUB_SHA": pushed["commit"]},
        )
    assert status == 0, said
    outputs = job.outputs()
    assert outputs["release-path"] == f"{pushed['repository-path']}/release.json"
    assert outputs["channel-path"] == "apk/channels/stable"
    assert {name: pushed[name] for name in ("arch", "commit", "packages", "version")}.items() <= outputs.items()
    assert "package-dir" not in outputs
    assert receiver.asked[0].content["archive"] == outputs["archive-path"]
    for hide in (*hidden(job, shipping), secret):
        assert hide not in "\n".join(line for line in said.splitlines() if not line.startswith("::add-mask::"))
    assert f"::add-mask::{secret}\n" in said


def test_a_fork_s_pull_request_is_built_and_ships_nothing(job: Job, shipping: dict[str, str]) -> None:
    job.commit("    mkdir out; echo hello > out/page")
    request = {"head": {"repo": {"full_name": "mallory/shop"}}, "base": {"repo": {"full_name": "acme/shop"}}}
    job.file("event.json").write_text(json.dumps({"pull_request": request}))
    secrets = ("signing-key", "access-key-id", "secret-access-key")
    status, said = job.run(inputs=shipping | dict.fromkeys(secrets, ""), env={"GITHUB_EVENT_NAME": "pull_request"})
    assert status == 0, said
    job.assert_nothing_is_roots()
    why = "nothing was pushed: GitHub gives a pull request from a fork no secrets"
    assert job.outputs()["skipped"] == why
    assert f"::notice::{why}" in said
    assert "repository-url" not in job.outputs()
    assert len(json.loads(job.outputs()["packages"])) == 1


def test_a_dry_run_stores_nothing_and_says_what_it_would(
    job: Job, shipping: dict[str, str], s3_server: S3Server
) -> None:
    job.commit("    mkdir out; echo hello > out/page")
    status, said = job.run(inputs=shipping | {"dry-run": "true"})
    assert status == 0, said
    name = shipping["bucket"].removeprefix("s3://")
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=name)
    assert "would be stored: apk/keys/acme-shop.rsa.pub\n" in said
    assert "- would be stored: `apk/keys/acme-shop.rsa.pub`" in job.summary()
    assert job.outputs()["skipped"] == "nothing was pushed: it is a dry run"
    assert "repository-url" not in job.outputs()


@pytest.mark.parametrize(
    ("inputs", "status", "sentence"),
    [
        ({"secret-access-key": "wrong-wrong-wrong"}, 6, "the secret access key is not the one"),
        ({"access-key-id": "", "secret-access-key": ""}, 6, "no credentials were found"),
        ({"signing-key": "not a key"}, 5, "the signing key is not a private key in PEM"),
        ({"signing-key": ""}, 5, "pushing needs a signing key of your own"),
        ({"config": "missing.yml"}, 2, "there is no manifest missing.yml"),
        ({"command": "all"}, 2, "the input command: expected one of run,"),
        ({"command": "deploy"}, 2, "deploying needs the tokens of the package and of its publisher"),
        ({"instellar-auth-token": "one-of-the-two"}, 2, "INSTELLAR_PACKAGE_TOKEN is not"),
        ({"dry-run": "yes"}, 2, "the input dry-run: expected true or false, but got 'yes'"),
        ({"architectures": "amd64"}, 2, "is it x86_64?"),
        ({"working-directory": "../.."}, 2, "expected a folder in the workspace"),
        ({"log-level": "loud"}, 2, "the input log-level: invalid choice"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_an_annotation_and_a_summary(
    job: Job, shipping: dict[str, str], inputs: dict[str, str], status: int, sentence: str
) -> None:
    job.commit("    mkdir out; echo hello > out/page")
    ended, said = job.run(inputs=shipping | inputs, env={"AWS_EC2_METADATA_DISABLED": "true"})
    assert ended == status, said
    errors = [message for name, _, message in commands(said) if name == "error"]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert job.summary().startswith("## pakman failed")
    job.assert_nothing_is_roots()
    assert not (job.workspace / "packages").exists()
    for secret in hidden(job, shipping):
        assert secret not in job.summary() + job.file("outputs").read_text()


def test_another_key_of_the_same_name_is_said_before_the_build(
    job: Job, shipping: dict[str, str], s3_server: S3Server
) -> None:
    name = shipping["bucket"].removeprefix("s3://")
    s3_server.client().put_object(Bucket=name, Key="apk/keys/acme-shop.rsa.pub", Body=b"another")
    job.commit("    mkdir out; echo hello > out/page")
    status, said = job.run(inputs=shipping)
    assert status == 6, said
    assert "::group::" not in said
    (error,) = (message for name, _, message in commands(said) if name == "error")
    assert "apk/keys/acme-shop.rsa.pub is in s3://" in error
    assert "Sign with the key that was used before" in error
    assert "begins with a line Key-Name:" in error
    assert "--prefix" in error


def test_another_project_s_channel_is_said_before_the_build(
    job: Job, shipping: dict[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    theirs = key_called("acme-notes.rsa.pub")
    bucket = Bucket(Location(shipping["bucket"].removeprefix("s3://"), "apk"), env=s3_server.env)
    built = signed_repository(tmp_path / "theirs", key=theirs)
    adding.add(Channel(bucket, "stable", [theirs]), adding.built([built]), "notes")
    job.commit("    mkdir out; echo hello > out/page")
    status, said = job.run(inputs={**shipping, "channel": "stable"})
    assert status == 6, said
    assert "::group::" not in said
    assert "is signed by acme-notes.rsa.pub, not by acme-shop.rsa.pub" in said


def test_problems_of_the_manifest_are_annotations_on_its_lines(job: Job) -> None:
    job.commit("    true", biuld="1")
    status, said = job.run(inputs={"command": "validate"})
    assert status == 3
    errors = [places for name, places, _ in commands(said) if name == "error"]
    assert errors[0]["file"] == "instellar.yml"
    assert errors[0]["line"] == "2"
    assert "- `instellar.yml:2:1` error: " in job.summary()


def test_a_shallow_clone_is_named_as_the_reason_of_0_0_0(job: Job) -> None:
    job.commit("    mkdir out; echo hello > out/page")
    git = job.workspace / ".git"
    # As actions/checkout leaves it: no tags, and nothing before the one commit.
    (git / "refs/tags/v1.2.3").rename(git / "shallow")
    status, said = job.run(inputs={})
    assert status == 0, said
    (warning,) = (message for name, _, message in commands(said) if name == "warning")
    assert "0.0.0 because the clone is shallow" in warning
    assert "fetch-depth: 0" in warning
    assert "Warning: the version is 0.0.0 because the clone is shallow" in job.summary()
    assert job.outputs()["version"] == "0.0.0-r7"


def waiting(job: Job, inputs: Mapping[str, str], *prefix: str) -> subprocess.Popen[str]:
    """Start a step whose build waits, and return once it does."""
    process = job.start(inputs, {}, *prefix)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("the build waits"):
            return process
    raise AssertionError(f"it ended with {process.wait()}")


def nap() -> str:
    """A command that no other process has."""
    return f"sleep 4{secrets.randbelow(10**6)}.5"


def running(nap: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"^{nap}$"], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


PID_1 = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""What makes the entrypoint the first process, as it is in a container."""


@pytest.mark.parametrize("prefix", [[], PID_1], ids=["any", "pid-1"])
def test_sigterm_ends_it_cleanly(job: Job, shipping: dict[str, str], prefix: list[str]) -> None:
    sleep = nap()
    job.commit(f"    echo the build waits; {sleep}")
    with waiting(job, shipping, *prefix) as process:
        lines = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        for secret in hidden(job, shipping):
            assert secret.encode() not in lines
        entrypoint = children(process.pid)[0] if prefix else process.pid
        os.kill(entrypoint, signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(timeout=20) == 143, said
    must_go(lambda: running(sleep))
    assert "pakman: terminated" in said
    assert "the run was stopped before its end" in job.summary()
    assert job.outputs()["name"] == "shop"
    job.assert_nothing_is_roots()


@pytest.mark.parametrize("prefix", [[], PID_1], ids=["any", "pid-1"])
def test_a_pakman_that_is_killed_leaves_nothing_of_roots(job: Job, prefix: list[str]) -> None:
    sleep = nap()
    job.commit(f"    echo the build waits; {sleep}")
    with waiting(job, {}, *prefix) as process:
        entrypoint = children(process.pid)[0] if prefix else process.pid
        assert [path for path in job.workspace.rglob("*") if path.lstat().st_uid == 0]
        os.kill(children(entrypoint)[0], signal.SIGKILL)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(timeout=20) == 137
    must_go(lambda: running(sleep))
    assert "::error title=pakman::pakman was killed by SIGKILL%0Ais there enough memory?" in said
    assert "## pakman failed" in job.summary()
    job.assert_nothing_is_roots()


DOCKERS = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,"
    "+mknod,+audit_write,+setfcap"
)
"""What Docker leaves root of a container (docs.docker.com, "Runtime privilege and Linux capabilities")."""


def test_nobody_reads_its_secrets_from_it_not_even_root(job: Job) -> None:
    like_in_a_container = [shutil.which("setpriv") or "setpriv", f"--bounding-set={DOCKERS}"]
    job.commit(f"    echo the build waits; {nap()}")
    with waiting(job, {"signing-key": job.key}, *like_in_a_container) as process:
        looks = [
            subprocess.run([*like_in_a_container, "cat", f"/proc/{number}/environ"], capture_output=True, check=False)
            for number in (process.pid, *children(process.pid))
        ]
        process.terminate()
    assert [(look.returncode, look.stdout) for look in looks] == [(1, b"")] * 2


def children(number: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def test_no_link_leads_out_of_the_workspace(job: Job, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("root's")
    (job.workspace / "link").symlink_to(outside)
    (job.workspace / "file").symlink_to(outside / "file")
    job.commit("    mkdir out; echo hello > out/page")
    (job.workspace / "of-an-earlier-step").mkdir()
    status, said = job.run(inputs={"command": "generate"})
    assert status == 0, said
    job.assert_nothing_is_roots()
    assert [path.stat().st_uid for path in (outside, outside / "file")] == [0, 0]


def test_what_is_debugged_is_shown_before_it_runs(job: Job) -> None:
    job.commit("    mkdir out; echo hello > out/page")
    shown = [line for line in job.run(inputs={"log-level": "debug"})[1].splitlines() if line.startswith("+ ")]
    assert any(" rev-parse --show-toplevel" in line for line in shown)
    status, said = job.run(inputs={"command": "generate"}, env={"RUNNER_DEBUG": "1"})
    assert status == 0
    assert any("rev-parse" in message for name, _, message in commands(said) if name == "debug")

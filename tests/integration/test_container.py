"""The action in its own image, as GitHub's runner runs it: mounts, environment, uids, file commands, log."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from pakman import signing
from tests import building, demo, mirror, runner
from tests.engine import Engine
from tests.integration.conftest import CACHE
from tests.machine import running_machine
from tests.runner import Job, Step
from tests.servers import S3Server

pytestmark = [pytest.mark.docker, pytest.mark.alpine, pytest.mark.s3, pytest.mark.git]

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFEST = """\
stack: alpine/3.23
description: A shop
license: MIT
url: https://example.com/shop
build:
  command: |
    {command}
  destinations: [app]
"""
BUILD = {"test": "false"} | ({} if os.environ.get("PAKMAN_TEST_ABUILD_IMAGE") else {"builder": "embedded"})
"""The inputs of a build: a test of its own is about testing; abuild where there is all that it needs."""


def manifest(command: str) -> str:
    """Return a manifest whose package holds `app`, which the command makes."""
    return MANIFEST.format(command=command.strip().replace("\n", "\n    "))


SHOP = manifest("echo sold > app")


class MakeJob(Protocol):
    """Makes the test's job."""

    def __call__(self, files: Mapping[str, str], *, copied: Path | None = None) -> Job:
        """Return a job with these files, and a folder's content, in its repository."""


@pytest.fixture
def make_job(docker_engine: Engine, action: str, alpine_image: str, abuild_image: str, tmp_path: Path) -> MakeJob:
    """Make a job whose repository names the image to build in, where a build root in a container is asked for."""
    images = f'build-image = "{abuild_image or alpine_image}"\nrun-image = "{alpine_image}"\n'
    stacks = f'[stacks."alpine/3.23"]\n{images}'

    def make(files: Mapping[str, str], *, copied: Path | None = None) -> Job:
        everything = {".pakman.toml": stacks, **files}
        return runner.job(docker_engine, action, tmp_path / "job", everything, copied=copied)

    return make


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A private key's text, as `pakman keygen` makes it."""
    private, _ = signing.keygen(tmp_path_factory.mktemp("key"), "a.rsa.pub")
    return private.read_text()


@pytest.fixture
def shipping(s3_server: S3Server, key: str, tmp_path: Path) -> dict[str, str]:
    """The inputs of a step that builds and ships, into a bucket of the test's own."""
    bucket = f"container-{abs(hash(tmp_path)) % 10**9}"
    s3_server.client().create_bucket(Bucket=bucket)
    return {
        **BUILD,
        "signing-key": key,
        "bucket": f"s3://{bucket}",
        "endpoint-url": s3_server.endpoint,
        "access-key-id": s3_server.access_key_id,
        "secret-access-key": s3_server.secret_access_key,
    }


def stored(s3_server: S3Server, inputs: Mapping[str, str]) -> list[str]:
    """Return the keys of what is in the bucket."""
    listing = s3_server.client().list_objects_v2(Bucket=inputs["bucket"].removeprefix("s3://"))
    return [each["Key"] for each in listing.get("Contents", [])]


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder but git's own, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize("example", ["guestbook", "hello-static", "hello-web", "notes"])
def test_an_example_comes_from_its_repository_into_a_clean_alpine(
    make_job: MakeJob,
    example: str,
    shipping: dict[str, str],
    alpine_pristine: Path,
    abuild_image: str,
    tmp_path: Path,
) -> None:
    made = make_job({}, copied=EXAMPLES / example)
    inputs = {**shipping, "channel": "stable", "log-level": "debug"}
    step = made.step(inputs, env={"GITHUB_REPOSITORY": f"acme/{example}"})
    assert step.status == 0, step.log
    assert (f">>> {example}: Entering fakeroot" in step.log) == bool(abuild_image)
    assert not containers(step), "the action's own container is the release that is built for"
    assert made.owned_by_root() == []
    outputs = step.outputs
    assert (outputs["name"], outputs["version"], outputs["skipped"]) == (example, "1.0.0-r7", "")
    assert outputs["repository-url"] in step.summary
    assert f"wget -qO- {outputs['channel-url']}/install.sh | sh" in step.summary
    # Paths are the runner's, below its workspace.
    for package in json.loads(outputs["packages"]):
        file = made.workspace / outputs["package-dir"] / package["file"]
        assert file.stat().st_size == package["size"]
        assert f"{package['sha256']}  {package['file']}" in outputs["checksums"].splitlines()
    assert json.loads((made.workspace / outputs["manifest-file"]).read_text())["slug"] == example
    for secret in (shipping["secret-access-key"], *shipping["signing-key"].splitlines()[1:-1]):
        assert secret not in re.sub("^::add-mask::.*$", "", step.log, flags=re.MULTILINE)
        assert secret in " ".join(step.commands("add-mask"))
    with running_machine(alpine_pristine, tmp_path / "machine") as machine:
        demo.trust(machine, {**outputs, "repository-url": outputs["channel-url"]})
        # nginx, which a site wants, is not in this root; the rest of the package does without.
        machine.sh(f"apk add --quiet {'--force-broken-world ' if example == 'hello-static' else ''}{example}")
        assert machine.sh(f"apk info {example}")


@pytest.mark.parametrize(
    ("change", "files", "status", "said"),
    [
        ({"signing-key": "no key"}, {}, 5, "signing-key"),
        ({"access-key-id": "", "secret-access-key": ""}, {}, 6, "credentials"),
        ({"secret-access-key": "another"}, {}, 6, "secret access key"),
        ({}, {"instellar.yml": "stack: alpine/3.23\nlicence: MIT\n"}, 3, "licence"),
        ({}, {"instellar.yml": manifest("echo almost\nfalse")}, 4, "almost"),
    ],
    ids=["no-key", "no-credentials", "wrong-credentials", "broken-manifest", "failing-build"],
)
def test_what_went_wrong_is_said_and_nothing_is_left(
    make_job: MakeJob,
    shipping: dict[str, str],
    s3_server: S3Server,
    change: dict[str, str],
    files: dict[str, str],
    status: int,
    said: str,
) -> None:
    made = make_job({"instellar.yml": SHOP, **files})
    before = tree(made.workspace)
    step = made.step({**shipping, **change})
    assert step.status == status, step.log
    assert any(said in error for error in step.commands("error")), step.log
    assert "Traceback" not in step.log
    assert "pakman failed" in step.summary
    assert tree(made.workspace) == before
    assert made.owned_by_root() == []
    assert list(made.home.iterdir()) == []
    assert stored(s3_server, shipping) == []


@pytest.mark.parametrize(("run_root", "command", "status"), [("docker", "grep sold", 0), ("auto", "grep gold", 8)])
def test_a_package_is_tested_in_a_container_beside_the_action(
    make_job: MakeJob, docker_engine: Engine, shipping: dict[str, str], s3_server: S3Server, run_root: str,
    command: str, status: int,
) -> None:  # fmt: skip
    tested = f"test:\n  command: {command} /var/lib/shop/app\n"
    made = make_job({"instellar.yml": SHOP + tested})
    step = made.step({**shipping, "test": "", "run-root": run_root, "log-level": "debug"})
    assert step.status == status, step.log
    assert step.outputs["test-result"] == ("failed" if status else "passed")
    assert (made.workspace / step.outputs["test-report"]).read_text().count("<testcase ") >= 4
    assert bool(stored(s3_server, shipping)) == (status == 0)
    assert not any(key.endswith(".xml") for key in stored(s3_server, shipping))
    errors = [error for error in step.commands("error") if error.startswith("file=instellar.yml,line=")]
    assert len(errors) == bool(status)
    assert containers(step)
    assert not any(docker_engine.has_container(name) for name in containers(step))
    assert made.owned_by_root() == []
    for secret in (shipping["secret-access-key"], *shipping["signing-key"].splitlines()[1:-1]):
        assert secret not in re.sub("^::add-mask::.*$", "", step.log, flags=re.MULTILINE)


def test_a_package_that_cannot_be_tested_is_shipped_and_that_is_said(
    make_job: MakeJob, shipping: dict[str, str], s3_server: S3Server
) -> None:
    nowhere = '[stacks."alpine/3.23"]\nrun-image = "127.0.0.1:1/alpine:3.23"\n'
    step = make_job({"instellar.yml": SHOP, ".pakman.toml": nowhere}).step({**shipping, "test": "true"})
    assert step.status == 0, step.log
    assert step.outputs["test-result"] == "skipped"
    assert step.outputs["test-skipped"].startswith("not tested: there is no Alpine 3.23 to test in: "), step.log
    assert any("not tested: " in warning for warning in step.commands("warning")), step.log
    assert "| skipped | " in step.summary
    assert stored(s3_server, shipping)


def test_a_problem_stands_at_its_line(make_job: MakeJob) -> None:
    step = make_job({"instellar.yml": SHOP.replace("license", "licence")}).step({"command": "validate"})
    assert step.status == 3
    assert any(error.startswith("file=instellar.yml,line=3,") for error in step.commands("error")), step.log


# The runner sends the first, the second 7.5 seconds later, and kills after 2.5 more (ProcessInvoker).
@pytest.mark.parametrize(
    ("cancelled_by", "build_root"),
    [(signal.SIGINT, "native"), (signal.SIGTERM, "native"), (signal.SIGTERM, "docker")],
)
def test_a_cancelled_job_leaves_nothing(
    make_job: MakeJob,
    docker_engine: Engine,
    cancelled_by: signal.Signals,
    build_root: str,
    shipping: dict[str, str],
    s3_server: S3Server,
) -> None:
    made = make_job({"instellar.yml": manifest("echo begun\nsleep 300\necho sold > app")})
    before = tree(made.workspace)
    with made.running({**shipping, "build-root": build_root, "log-level": "debug"}) as running:
        assert running.process.stdout is not None
        log = list(until("begun", running.process.stdout))
        began = time.monotonic()
        running.process.send_signal(cancelled_by)
        step = running.ended("".join(log) + running.process.stdout.read())
        took = time.monotonic() - began
    assert step.status == 128 + cancelled_by, step.log
    assert took < 10
    assert bool(containers(step)) == (build_root == "docker")
    assert not any(docker_engine.has_container(name) for name in containers(step))
    assert tree(made.workspace) == before
    assert made.owned_by_root() == []
    assert list(made.home.iterdir()) == []
    assert stored(s3_server, shipping) == []
    for line in shipping["signing-key"].splitlines()[1:-1]:
        assert line not in "".join(line for line in step.log.splitlines() if not line.startswith("::add-mask::"))


def containers(step: Step) -> set[str]:
    """Return the names of the containers that a step has had for its build, by its debug log."""
    return set(re.findall(r"--name (pakman-[0-9a-f]{16})\b", step.log))


def until(words: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield lines up to the one that ends with these words."""
    for line in lines:
        yield line
        if line.rstrip().endswith(words):
            return


SPY = r"""
set +e
tell() {
    printf '%s\n' '::set-output name=version::9' '::add-mask::sold' '##[error]mine' '  ::error::mine'
    echo '::stop-commands::x'
}
tell
tell >&2
tell > /proc/1/fd/1
for file in /github/file_commands/* "$GITHUB_OUTPUT" "$GITHUB_ENV"; do echo name=9 >> "$file"; done
touch /github/workspace/touched /github/home/touched /opt/pakman/touched
exec > app 2>&1
id
env
ls -laR /github /var/run /root
cat /github/workflow/event.json /github/workspace/.git/config
cat /proc/*/environ /proc/*/cmdline | tr '\0' '\n'
find / -xdev \( -name '*.rsa' -o -name '*.pem' \) -exec cat {} +
docker --host unix:///var/run/docker.sock version
echo it has looked
"""


def test_a_build_gets_nothing_of_the_job_and_changes_nothing_in_it(
    make_job: MakeJob,
    shipping: dict[str, str],
) -> None:
    made = make_job({"instellar.yml": manifest("sh spy.sh"), "spy.sh": SPY})
    step = made.step(shipping, event={"secret": "of-the-event"})
    assert step.status == 0, step.log
    assert "set-output" in step.log
    for name in ("set-output", "error", "stop-commands"):
        assert step.commands(name) == []
    assert "sold" not in step.commands("add-mask")
    assert (step.outputs["name"], step.outputs["version"]) == ("shop", "1.0.0-r7")
    package = next((made.workspace / step.outputs["package-dir"]).rglob("shop-1*.apk"))
    found = (building.contents(package)["var/lib/shop/app"] or b"").decode()
    assert found.endswith("it has looked\n")
    secrets = [shipping[name] for name in ("access-key-id", "secret-access-key", "bucket")]
    secrets += shipping["signing-key"].splitlines()[1:-1]
    secrets += ["-of-the-job", "of-the-event", "Server:", "GITHUB_", "ACTIONS_", "INPUT_", "AWS_"]
    assert [secret for secret in secrets if secret in found] == []
    assert not list(made.folder.rglob("touched"))
    assert made.owned_by_root() == []


def everything(made: Job) -> dict[str, bytes]:
    """Return all files of the workspace and of HOME, git's and their own links included."""
    return {
        str(path): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for folder in (made.workspace, made.home)
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize(
    ("command", "packed", "said"),
    [
        (
            'cd /; rm -r "$builddir"; ln -s /github/workspace "$builddir"',
            'destinations: ["*"]',
            "package() failed",
        ),
        ("ln -s /github/workflow dist", "destinations: [dist/*]", "'dist/*' matches nothing"),
        ("ln -s /github/home out; echo sold > app", "destinations: [app]\n  exclude: [out/kept]", "package() failed"),
        ("ln -s /opt/pakman/lib out; echo sold > app", "destinations: [app]\n  exclude: [out/*]", "package() failed"),
        (
            "true",
            "destinations: [app]\npackage: cp /github/workflow/event.json $pkgdir/",
            "--builder abuild, or --build-root docker",
        ),
    ],
    ids=["builddir", "destination", "exclude", "program", "script"],
)
def test_a_link_that_a_build_left_leads_packing_nowhere(
    make_job: MakeJob, command: str, packed: str, said: str
) -> None:
    made = make_job({"instellar.yml": manifest(command).replace("destinations: [app]", packed)})
    (made.home / "kept").write_text("kept")
    before = everything(made)
    step = made.step({"command": "build", "builder": "embedded"}, event={"secret": "of-the-event"})
    assert (step.status, "Traceback" in step.log) == (4, False), step.log
    assert said in step.log
    assert everything(made) == before


ODD = manifest(r"""
mkdir -p odd/deep odd/shared drop
cp /bin/busybox odd/tool
ln odd/tool odd/same
chmod 4755 odd/tool
ln -s /etc/passwd odd/link
mkfifo odd/pipe
touch odd/lib.la drop/it "odd/ünï cödé"
printf x > odd/deep/file
chmod 400 odd/deep/file
chmod 555 odd/deep
chmod 3770 odd/shared
""").replace("[app]", "[odd, drop]\n  exclude: [drop/it]")


@pytest.mark.parametrize(
    ("files", "copied", "packages"),
    [
        ({}, EXAMPLES / "hello-static", 1),
        ({}, EXAMPLES / "hello-web", 2),
        ({}, EXAMPLES / "notes", 2),
        ({"instellar.yml": ODD}, None, 1),
    ],
    ids=["hello-static", "hello-web", "notes", "odd"],
)
def test_what_no_root_has_packed_is_the_same_package(
    make_job: MakeJob, key: str, files: dict[str, str], copied: Path | None, packages: int
) -> None:
    made = make_job(files, copied=copied)
    built = []
    for build_root in ("native", "docker"):
        inputs = {"command": "build", "builder": "embedded", "build-root": build_root, "signing-key": key}
        step = made.step(inputs)
        assert step.status == 0, step.log
        found = sorted((made.workspace / step.outputs["package-dir"]).rglob("*.apk"))
        built.append({path.name: path.read_bytes() for path in found})
    assert built[0] == built[1]
    assert len(built[0]) == packages


FORK = {
    "pull_request": {"head": {"repo": {"full_name": "stranger/shop"}}, "base": {"repo": {"full_name": "acme/shop"}}}
}


def test_a_pull_request_from_a_fork_is_built_and_not_shipped(
    make_job: MakeJob,
    shipping: dict[str, str],
    s3_server: S3Server,
) -> None:
    made = make_job({"instellar.yml": SHOP})
    secrets = dict.fromkeys(("signing-key", "access-key-id", "secret-access-key"), "")
    step = made.step({**shipping, **secrets}, event=FORK, event_name="pull_request")
    assert step.status == 0, step.log
    assert step.outputs["skipped"]
    assert step.commands("notice"), step.log
    assert list((made.workspace / step.outputs["package-dir"]).rglob("shop-1.0.0-r7.apk"))
    assert made.owned_by_root() == []
    assert stored(s3_server, shipping) == []


def test_a_container_beside_the_action_builds_as_well(make_job: MakeJob, docker_engine: Engine) -> None:
    made = make_job({"instellar.yml": SHOP})
    step = made.step({**BUILD, "build-root": "docker", "log-level": "debug"})
    assert step.status == 0, step.log
    assert containers(step)
    assert not any(docker_engine.has_container(name) for name in containers(step))
    assert list((made.workspace / step.outputs["package-dir"]).rglob("shop-1.0.0-r7.apk"))
    assert made.owned_by_root() == []


def test_what_the_build_needs_comes_from_a_mirror(make_job: MakeJob) -> None:
    needs = manifest("figlet sold > app") + "dependencies:\n  build: [figlet]\n"
    with mirror.served(mirror.made(CACHE)) as address:
        stacks = f'apk-mirrors = ["{address}/alpine"]\n'
        step = make_job({"instellar.yml": needs, ".pakman.toml": stacks}).step(BUILD)
    assert step.status == 0, step.log


def test_a_shallow_clone_is_named_as_the_reason_of_no_version(
    make_job: MakeJob,
) -> None:
    made = make_job({"instellar.yml": SHOP})
    made.git("tag", "--delete", "v1.0.0")
    (made.workspace / ".git/shallow").write_text(made.git("rev-parse", "HEAD") + "\n")
    step = made.step(BUILD)
    assert step.status == 0, step.log
    assert step.outputs["version"].startswith("0.0.0")
    assert "fetch-depth: 0" in step.log


def test_the_image_holds_what_the_action_needs_and_no_leftovers(docker_engine: Engine, action: str) -> None:
    config = json.loads(docker_engine.ask("image", "inspect", "--format", "{{json .Config}}", action))
    # GitHub's file commands belong to root in here.
    assert config.get("User", "") in ("", "root")
    assert config["Labels"]["org.opencontainers.image.title"] == "pakman"
    look = """
        find /var/cache/apk /tmp /root /opt/pakman/lib -name '*.apk' -o -path '*/.cache/*' -o -path '*/pip/*'
        find /opt/pakman/lib -name '*.py' | while read -r file; do
            ls "${file%/*}/__pycache__/" | grep -qF "$(basename "$file" .py).cpython" || echo "$file is not compiled"
        done
    """
    assert docker_engine.ask("run", "--rm", "--network=none", "--entrypoint=sh", action, "-c", look) == ""

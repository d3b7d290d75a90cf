"""From a manifest to a deployment: a real bucket, and a service that takes only what its contract says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest

from pakman import archive, cli, repository, signing
from pakman.bucket import Bucket, Location
from pakman.errors import BucketError
from pakman.publish import publish
from tests import demo, repositories
from tests.building import contents
from tests.instellar_service import AUTH_TOKEN, PACKAGE_TOKEN, Asked, Fault, Service, running_service, storage_of
from tests.integration.conftest import BUCKET, CACHE
from tests.proxy import Answer, Request, proxy
from tests.servers import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.git]

MANIFEST = """\
stack: alpine/3.23
build:
  command: |
    mkdir out
    { echo BUILD_SEES=this; env; cat /proc/[0-9]*/environ; } 2>/dev/null | tr '\\0' '\\n' |
      grep -E '^(BUILD_SEES|INSTELLAR_|AWS_|PAKMAN_SIGNING_KEY)' > out/found
  destinations: [out]
run:
  name: shop
"""
KITS = """\
kits:
  - name: web
    main: true
    ports:
      - name: web
        main: true
        target: 3000
      - name: admin
        target: 4000
sizes:
  - name: medium
page:
  title: Shop
"""
PAYLOAD = {
    "kits": [
        {
            "name": "web",
            "main": True,
            "ports": [{"name": "web", "main": True, "target": 3000}, {"name": "admin", "target": 4000}],
        }
    ],
    "sizes": [{"name": "medium"}],
    "page": {"title": "Shop"},
}


@dataclass
class Place:
    """A committed application, room in the bucket, and a service that reads there."""

    path: Path
    server: S3Server
    service: Service
    client: Any
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")

    def git(self, *argv: str) -> str:
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *argv],
            cwd=self.path, env=env, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    @property
    def sha(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def bucket(self) -> Bucket:
        return Bucket(Location(BUCKET, self.prefix), env=self.server.env)

    def keys(self) -> dict[str, int]:
        """All that is there, with its size."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return {item["Key"]: item["Size"] for item in found.get("Contents", ())}

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def pushed(self, folder: Path, *arches: str, packages: Mapping[str, bytes] | None = None) -> None:
        """Push packages of this commit as the jobs of a matrix would."""
        for arch in arches:
            repositories.repository(
                folder / arch, packages or {"shop": f"for {arch}".encode()}, arch=arch, commit=self.sha,
                index=f"the index for {arch}".encode(),
            )  # fmt: skip
            publish(repository.read(folder / arch), self.bucket)

    def archives(self) -> list[str]:
        return [key for key in self.keys() if "/archives/" in key]

    @property
    def folder(self) -> str:
        return f"{self.prefix}/deployments/acme/notes/{self.sha}"

    def env(self, more: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.path.parent), "GIT_CONFIG_GLOBAL": "/dev/null",
            **self.service.env, **more,
        }  # fmt: skip

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pakman", *argv, "--project=acme/notes", f"--prefix={self.prefix}"],
            cwd=self.path,
            env=self.env(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pakman(self, *argv: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run pakman as a program; it must exit with `status`. Return all that it said, which holds no secret."""
        with self.start(*argv, env=env) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == status, said
        return self.without_secrets(said)

    def deploy(self, *argv: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run `pakman deploy` in this process, which knows boto3 already; else as `pakman` does."""
        said, variables = StringIO(), self.env(env or {})
        words = ["deploy", *argv, "--project=acme/notes", f"--prefix={self.prefix}"]
        with chdir(self.path), redirect_stdout(said), redirect_stderr(said), pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            ended = cli.main(words)
        assert ended == status, said.getvalue()
        return self.without_secrets(said.getvalue())

    def without_secrets(self, said: str) -> str:
        secrets = [PACKAGE_TOKEN, AUTH_TOKEN, self.server.secret_access_key, *self.service.tokens]
        shown = "\n".join(line for line in said.splitlines() if not line.startswith("::add-mask::"))
        assert not any(secret in shown for secret in secrets)
        return said


@pytest.fixture
def place(tmp_path: Path, s3_server: S3Server, client: Any) -> Iterator[Place]:
    path = tmp_path / "shop"
    path.mkdir()
    (path / "instellar.yml").write_text(MANIFEST + KITS)
    with running_service(storage_of(s3_server, BUCKET)) as service:
        made = Place(path, s3_server, service, client)
        made.git("init", "--quiet", "--initial-branch=main")
        made.git("add", "--all")
        made.git("commit", "--quiet", "--message=first")
        yield made


def entries(place: Place, key: str) -> dict[str, bytes]:
    """Return an archive's entries as the service takes them: the last two parts of each name."""
    with zipfile.ZipFile(BytesIO(place.get(key))) as found:
        assert found.testzip() is None
        for entry in found.infolist():
            assert not entry.is_dir()
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
        assert found.namelist() == sorted(found.namelist())
        return {"/".join(name.split("/")[-2:]): found.read(name) for name in found.namelist()}


CALLS = [
    "POST /publish/automation/callback",
    "GET /publish/deployments/SHA",
    "GET /publish/storage",
    "POST /publish/deployments",
    "POST /publish/deployments/1/configurations",
]


def asked(place: Place) -> list[str]:
    """Return what the service was asked since the last time."""
    lines = [line.replace(place.sha, "SHA") for line in place.service.lines]
    place.service.asked.clear()
    return lines


def test_all_architectures_of_a_commit_are_deployed_at_once(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "aarch64", "x86_64")
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    place.deploy(env={"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary)})
    (key,) = place.archives()
    assert re.fullmatch(rf"{place.prefix}/archives/[0-9a-f-]{{36}}/packages\.zip", key)
    expected = {f"{arch}/shop-1.0.0-r0.apk": f"for {arch}".encode() for arch in ("aarch64", "x86_64")}
    expected |= {f"{arch}/APKINDEX.tar.gz": f"the index for {arch}".encode() for arch in ("aarch64", "x86_64")}
    assert entries(place, key) == expected
    sent = [each.content for each in place.service.asked]
    assert sent[3] == {
        "deployment": {"ref": "refs/heads/main", "hash": place.sha, "archive_path": key, "stack": "alpine/3.23"}
    }
    assert place.service.configurations == {1: PAYLOAD}
    assert asked(place) == CALLS
    found = demo.parsed(outputs.read_text())
    assert found["deployment-id"] == "1"
    assert found["deployment-status"] == "created"
    assert found["archive-path"] == key
    assert found["skipped"] == ""
    assert summary.read_text().startswith("## refs/heads/main is deployed\n")
    assert f"- Deployment: `1 (created)`\n- Archive: `{key}`" in summary.read_text()


def test_a_commit_that_is_deployed_is_deployed_again_without_shipping(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    place.deploy()
    before, outputs = place.keys(), tmp_path / "outputs"
    asked(place)
    said = place.deploy("--ref=refs/tags/v1", env={"GITHUB_OUTPUT": str(outputs)})
    assert "is deployed already: nothing is shipped" in said
    assert asked(place) == [*CALLS[:2], "POST /publish/deployments", "POST /publish/deployments/2/configurations"]
    assert {ref for ref, _ in place.service.known} == {"refs/heads/main", "refs/tags/v1"}
    assert len({each["archive_path"] for each in place.service.known.values()}) == 1
    assert demo.parsed(outputs.read_text())["deployment-status"] == "created"
    outputs.unlink()
    place.deploy(env={"GITHUB_OUTPUT": str(outputs)})
    assert demo.parsed(outputs.read_text())["deployment-status"] == "exists"
    assert place.keys() == before
    assert len(place.service.known) == 2


def test_two_deployments_at_once_are_one(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    together = threading.Barrier(2, timeout=60)

    def wait(request: Asked) -> None:
        # Neither knows of the other when it makes its archive.
        if request.path == "/publish/storage":
            together.wait()

    place.service.before = wait
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: place.pakman("deploy"), range(2)))
    assert len(place.archives()) == len(place.service.known) == len(place.service.configurations) == 1


def test_a_bucket_that_was_given_is_the_one(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    place.deploy(f"--bucket=s3://{BUCKET}", "--ref=refs/heads/x", env=place.server.env)
    assert "GET /publish/storage" not in asked(place)
    assert len(place.archives()) == 1


def test_without_kits_there_is_no_configuration(place: Place, tmp_path: Path) -> None:
    (place.path / "instellar.yml").write_text(MANIFEST.replace("stack: alpine/3.23\n", ""))
    place.pushed(tmp_path / "built", "x86_64")
    place.deploy()
    assert "stack" not in place.service.asked[3].content["deployment"]
    assert asked(place) == CALLS[:4]
    place.deploy("--stack=3.22", "--ref=refs/tags/v1")
    assert place.service.asked[-1].content["deployment"]["stack"] == "alpine/3.22"


def test_a_dry_run_ships_and_deploys_nothing(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    said = place.deploy("--dry-run")
    assert "would be in the archive: x86_64/APKINDEX.tar.gz\nwould be in the archive: x86_64/shop-1.0.0-r0.apk" in said
    assert (place.archives(), place.service.known) == ([], {})


def test_what_is_missing_is_named_and_nothing_is_deployed(place: Place, tmp_path: Path) -> None:
    said = place.deploy(status=7)
    assert f"error: {place.folder} in s3://{BUCKET}/{place.prefix} has no packages yet" in said
    assert "is this what they were pushed as (--sha, --project), and where to (--bucket, --prefix)?" in said
    place.pushed(tmp_path / "built", "x86_64")
    (place.path / "instellar.yml").write_text(MANIFEST + "architectures: [x86_64, aarch64]\n")
    assert "has no packages for aarch64 yet" in place.deploy(status=7)
    # An index comes last: until then an architecture has not arrived.
    place.client.put_object(Bucket=BUCKET, Key=f"{place.folder}/aarch64/shop-1.0.0-r0.apk", Body=b"x")
    assert "has no packages for aarch64 yet" in place.deploy(status=7)
    assert (place.archives(), place.service.known) == ([], {})
    place.deploy("--architectures=x86_64")
    assert list(entries(place, place.archives()[0])) == ["x86_64/APKINDEX.tar.gz", "x86_64/shop-1.0.0-r0.apk"]


def test_what_is_no_package_is_no_entry(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    names = ("keys/APKINDEX.tar.gz", "x86_64/notes.txt", "x86_64/deep/er.apk", "shop.apk", "release.json")
    for name in (*names, "x86_64/::add-mask::x.apk", "x86_64/$(id).apk"):
        place.client.put_object(Bucket=BUCKET, Key=f"{place.folder}/{name}", Body=b"x")
    place.deploy()
    assert list(entries(place, place.archives()[0])) == ["x86_64/APKINDEX.tar.gz", "x86_64/shop-1.0.0-r0.apk"]


def test_what_is_refused_is_said_at_the_manifest_s_line(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    place.service.refuses = {"errors": {"kits": [{"ports": [{}, {"target": ["is taken"]}]}]}}
    line = (MANIFEST + KITS).splitlines().index("        target: 4000") + 1
    outputs = tmp_path / "outputs"
    said = place.deploy(status=7, env={"GITHUB_OUTPUT": str(outputs)})
    # The deployment is there all the same.
    found = demo.parsed(outputs.read_text())
    assert (found["deployment-id"], found["deployment-status"]) == ("1", "created")
    assert found["archive-path"] == place.archives()[0]
    assert f"instellar.yml:{line}:17: error: the deployment service refuses kits[0].ports[1].target: is taken" in said
    assert "refuses values: kits[0].ports[1].target is taken" in said
    summary = tmp_path / "summary"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(place.path), "GITHUB_STEP_SUMMARY": str(summary)}
    said = place.deploy(status=7, env=env)
    assert f"::error file=instellar.yml,line={line},col=17,title=refused::the deployment service refuses" in said
    assert f"- `instellar.yml:{line}:17` error: " in summary.read_text()
    # What the service hands out is masked before it could be said.
    assert f"::add-mask::{place.service.tokens[-1]}\n" in said
    # Once the manifest is right, the same deployment gets its configuration.
    place.service.refuses = None
    place.deploy()
    assert place.service.configurations == {1: PAYLOAD}
    assert len(place.service.known) == 1


def test_a_fork_s_pull_request_is_not_deployed(place: Place, tmp_path: Path) -> None:
    event, outputs = tmp_path / "event.json", tmp_path / "outputs"
    event.write_text(json.dumps({"pull_request": {"head": {"repo": None}, "base": {"repo": {"full_name": "a/b"}}}}))
    job = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event), "GITHUB_OUTPUT": str(outputs)}
    for tokens in ({"INSTELLAR_PACKAGE_TOKEN": "", "INSTELLAR_AUTH_TOKEN": ""}, {}):
        outputs.write_text("")
        said = place.deploy(env={**job, **tokens})
        assert "notice: nothing was deployed: GitHub gives a pull request from a fork no secrets" in said
        assert demo.parsed(outputs.read_text())["deployment-status"] == "none"
    assert place.service.asked == []


@pytest.mark.parametrize(
    ("argv", "env", "status", "sentence"),
    [
        ([], {"INSTELLAR_PACKAGE_TOKEN": "", "INSTELLAR_AUTH_TOKEN": ""}, 2, "deploying needs the tokens"),
        ([], {"INSTELLAR_AUTH_TOKEN": ""}, 2, "INSTELLAR_AUTH_TOKEN is not"),
        ([], {"INSTELLAR_AUTH_TOKEN": "another"}, 7, "does not know the auth token"),
        (["--sha=" + "0" * 40], {}, 7, "has no packages yet"),
        (["--sha=main"], {}, 2, "--sha is 'main', but it should be a full commit SHA\n  `git rev-list -n 1 main` says"),
        (["--sha=a b"], {}, 2, "`git rev-list -n 1 'a b'` says it"),
        (["--instellar-endpoint=http://x.example"], {}, 2, "would read the tokens"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    place: Place, argv: list[str], env: dict[str, str], status: int, sentence: str
) -> None:
    said = place.deploy(*argv, status=status, env=env)
    assert sentence in said
    assert "Traceback" not in said


def test_a_head_that_is_on_no_branch_needs_a_name(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    place.git("checkout", "--quiet", "--detach")
    assert "give --ref, e.g. --ref refs/heads/main" in place.deploy(status=2)
    place.deploy(env={"GITHUB_REF": "refs/tags/v9"})
    assert [ref for ref, _ in place.service.known] == ["refs/tags/v9"]


def test_another_commit_can_be_deployed(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64")
    sha = place.sha
    place.git("commit", "--quiet", "--allow-empty", "--message=second")
    place.deploy(f"--sha={sha}")
    assert [known for _, known in place.service.known] == [sha]


def test_an_archive_is_the_same_whoever_makes_it(place: Place, tmp_path: Path) -> None:
    packages = {f"shop{number}": os.urandom(5 << 20) for number in range(2)}
    place.pushed(tmp_path / "built", "x86_64", packages=packages)
    with closing(place.bucket) as bucket:
        wanted = archive.entries(bucket, place.folder, ())
        first = archive.ship(bucket, wanted)
        body, before = place.get(first), place.keys()
        assert archive.ship(bucket, wanted) == first
        assert place.keys() == before
        # In parts, for it is large; and again where somebody has removed it.
        assert place.client.head_object(Bucket=BUCKET, Key=first)["ETag"].endswith('-2"')
        place.client.delete_object(Bucket=BUCKET, Key=first)
        assert archive.ship(bucket, wanted) == first
        assert place.get(first) == body
        place.client.put_object(Bucket=BUCKET, Key=first, Body=b"x" * len(body))
        with pytest.raises(BucketError, match="with other bytes: nothing was overwritten"):
            archive.ship(bucket, wanted)


def test_a_package_that_breaks_off_is_in_no_archive(place: Place, tmp_path: Path) -> None:
    place.pushed(tmp_path / "built", "x86_64", packages={"shop": os.urandom(200_000)})

    def truncate(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and request.path.endswith(".apk"):
            return Answer(answer.status, answer.body[:1000], answer.headers, promised=len(answer.body))
        return answer

    with proxy(place.server.endpoint, after=truncate) as endpoint:
        bucket = Bucket(Location(BUCKET, place.prefix), endpoint_url=endpoint, env=place.server.env)
        with closing(bucket), pytest.raises(BucketError):
            archive.ship(bucket, archive.entries(bucket, place.folder, ()))
    assert place.archives() == []


@pytest.mark.alpine
def test_a_run_that_is_killed_before_the_service_knows_is_finished_by_the_next(place: Place, tmp_path: Path) -> None:
    signing.keygen(tmp_path, "acme-notes.rsa.pub")
    run = [
        "run", "--no-test", "--build-root=sandbox", "--builder=embedded", f"--cache-dir={CACHE}",
        f"--signing-key={tmp_path / 'acme-notes.rsa'}", f"--output={tmp_path / 'packages'}",
    ]  # fmt: skip
    arrived = threading.Event()

    def hang(request: Asked) -> Fault | None:
        if str(request) != "POST /publish/deployments":
            return None
        arrived.set()
        return Fault(seconds=60)

    place.service.before = hang
    with place.start(*run) as process:
        assert arrived.wait(90)
        process.kill()
    assert process.returncode == -9
    assert asked(place) == CALLS[:4]
    (key,) = place.archives()
    assert place.service.known == {}
    shipped = place.keys()

    place.service.before = lambda _asked: None
    outputs = tmp_path / "outputs"
    place.pakman(*run, env={"GITHUB_OUTPUT": str(outputs)})
    assert asked(place) == CALLS
    assert place.keys() == shipped
    found = demo.parsed(outputs.read_text())
    assert (found["deployment-status"], found["archive-path"]) == ("created", key)
    (arch,) = {name.split("/")[0] for name in entries(place, key)}
    built = tmp_path / "packages" / arch
    assert entries(place, key) == {
        f"{arch}/{file.name}": file.read_bytes() for file in built.iterdir() if file.suffix in (".apk", ".gz")
    }

    # The build wrote down what it could find of the tokens, and of the bucket's keys that the service hands out.
    (package,) = built.glob("shop-0*.apk")
    assert contents(package)["var/lib/shop/out/found"] == b"BUILD_SEES=this\n"

    outputs.unlink()
    said = place.pakman(*run, "--ref=refs/tags/v1.0.0", env={"GITHUB_OUTPUT": str(outputs)})
    assert "==> Build" not in said
    assert asked(place) == [*CALLS[:2], "POST /publish/deployments", "POST /publish/deployments/2/configurations"]
    assert place.keys() == shipped
    found = demo.parsed(outputs.read_text())
    assert found["skipped"] == f"nothing was built or pushed: {place.sha} is deployed already"
    assert (found["deployment-status"], found["archive-path"]) == ("created", key)

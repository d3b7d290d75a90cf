"""The whole job through the command line: from instellar.yml to a package that the real apk installs from a bucket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import demo
from tests.integration.conftest import CACHE, AlpineRoot
from tests.machine import running_machine
from tests.servers import S3Server

pytestmark = [pytest.mark.alpine, pytest.mark.s3, pytest.mark.git]

NASTY = """a "b" $(touch x) `touch y`"""

MANIFEST = f"""\
stack: alpine/3.23
description: '{NASTY}'
license: MIT
url: https://example.com/$(touch%20x)
dependencies:
  runtime: [curl]
build:
  command: |
    mkdir -p out/bin
    printf '#!/bin/sh\\necho "$@"\\n' > out/bin/shop
    chmod +x out/bin/shop
    env > out/environment
  environment:
    GREETING: '$(touch x)`touch y`"'
  destinations: [out/*]
run:
  name: shop
  services:
    - name: web
      binary: shop
      start:
        call: "'$(touch x)' \\"`touch y`\\""
  commands:
    - name: say
      binary: shop
      call: "'$(touch x)' \\"two words\\" *"
"""


@dataclass(frozen=True)
class Application:
    """A git repository with a manifest, and pakman run on it as a user would."""

    path: Path
    env: dict[str, str]

    def pakman(
        self, *argv: str, status: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run pakman here; it must exit with `status`."""
        done = subprocess.run(
            [sys.executable, "-m", "pakman", *argv],
            cwd=self.path,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, (argv, done.returncode, done.stdout, done.stderr)
        return done

    def git(self, *argv: str) -> None:
        """Run git here."""
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *argv], cwd=self.path, env=self.env, check=True
        )


@pytest.fixture
def application(tmp_path: Path) -> Application:
    """A committed application, tagged v1.0.0."""
    path = tmp_path / "shop"
    path.mkdir()
    when = "2026-01-02T03:04:05Z"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_DATE": when,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    made = Application(path, env)
    (path / "instellar.yml").write_text(MANIFEST)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message=first")
    made.git("tag", "v1.0.0")
    made.pakman("keygen", "--project", "acme/shop", "--output", str(tmp_path))
    return made


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path) -> str:
    """A bucket of this test's own."""
    name = f"main-job-{abs(hash(tmp_path)) % 10**9}"
    client = s3_server.client()
    client.create_bucket(Bucket=name)
    return name


def build_flags(tmp_path: Path) -> list[str]:
    """The flags that every build here takes."""
    return [
        "--project",
        "acme/shop",
        "--build-root",
        "sandbox",
        "--builder",
        "embedded",
        "--cache-dir",
        str(CACHE),
        "--signing-key",
        str(tmp_path / "acme-shop.rsa"),
    ]


def files(tree: Path) -> dict[str, bytes]:
    """Return every file below a directory with its content."""
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_the_demo_says_that_its_port_is_taken() -> None:
    with socket.create_server(("", 0)) as taken, pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "PORT", taken.getsockname()[1])
        with pytest.raises(SystemExit, match=r"where the examples serve, cannot be had: Address already in use"):
            demo.main()


def test_the_demo_ends_with_the_line_for_apk(capsys: pytest.CaptureFixture[str]) -> None:
    demo.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("http://127.0.0.1:")
    assert "/deployments/acme/hello-web/" in lines[-1]


def test_what_looks_like_shell_is_only_text(
    application: Application, bucket: str, s3_server: S3Server, alpine_pristine: Path, tmp_path: Path
) -> None:
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    application.pakman(
        "run", "--no-test", *build_flags(tmp_path), "--bucket", f"s3://{bucket}",
        "--output", str(tmp_path / "packages"),
        env={"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary), **s3_server.env},
    )  # fmt: skip
    found = demo.parsed(outputs.read_text())
    with running_machine(alpine_pristine, tmp_path / "machine") as machine:
        demo.trust(machine, found)
        machine.sh("apk add --quiet shop")
        assert NASTY in machine.sh("apk info --description shop")
        assert machine.sh("cd / && rc-service shop say").strip() == "$(touch x) two words *"
        touched = machine.sh("find / -xdev \\( -name x -o -name y \\) -type f ! -path '/usr/share/*' ! -path '/proc/*'")
    assert touched.strip() == ""
    assert not any((application.path / name).exists() for name in "xy")
    assert found["name"] == "shop"
    assert found["version"] == "1.0.0-r0"
    assert found["repository-url"] in summary.read_text()
    for package in json.loads(found["packages"]):
        assert f"{package['sha256']}  {package['file']}" in found["checksums"].splitlines()
        assert (tmp_path / "packages" / package["file"]).stat().st_size == package["size"]


def test_the_same_commit_gives_the_same_bytes(application: Application, tmp_path: Path) -> None:
    application.pakman("build", *build_flags(tmp_path), "--output", str(tmp_path / "one"))
    elsewhere = tmp_path / "another" / "place"
    elsewhere.parent.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(application.path), str(elsewhere)], env=application.env, check=True)
    again = Application(elsewhere, application.env)
    old_umask = os.umask(0o077)
    try:
        again.pakman("build", *build_flags(tmp_path), "--output", str(tmp_path / "two"))
    finally:
        os.umask(old_umask)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert sorted(one) == sorted(two)
    assert len([name for name in one if name.endswith(".apk")]) == 2
    assert one == two


def test_a_secret_is_nowhere_but_where_it_was_given(
    application: Application, bucket: str, s3_server: S3Server, alpine_root: AlpineRoot, tmp_path: Path
) -> None:
    private = (tmp_path / "acme-shop.rsa").read_text()
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    done = application.pakman(
        "run", "--no-test", "--project", "acme/shop", "--build-root", "sandbox", "--builder", "embedded",
        "--cache-dir", str(CACHE), "--bucket", f"s3://{bucket}", "--output", str(tmp_path / "packages"),
        env={
            "PAKMAN_SIGNING_KEY": private, "GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary),
            **s3_server.env,
        },
    )  # fmt: skip
    said = done.stdout + done.stderr + outputs.read_text() + summary.read_text()
    alpine_root.path.joinpath("all").mkdir()
    for package in (tmp_path / "packages").rglob("*.apk"):
        subprocess.run(
            ["tar", "-xzf", str(package), "-C", str(alpine_root.path / "all")], check=True, stderr=subprocess.DEVNULL
        )
    shipped = b"".join(files(alpine_root.path / "all").values())
    secrets = [line for line in private.splitlines() if "PRIVATE" not in line] + [s3_server.secret_access_key]
    for secret in secrets:
        assert secret not in said
        assert secret.encode() not in shipped
    # The build wrote its whole environment into a file: none of the names that hold secrets is in it.
    environment = (alpine_root.path / "all/var/lib/shop/environment").read_text()
    assert 'GREETING=$(touch x)`touch y`"' in environment
    for name in ("AWS_", "PAKMAN_SIGNING", "GITHUB_", str(tmp_path)):
        assert name not in environment


def test_pushing_wants_a_key_to_keep(
    application: Application, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    done = application.pakman(
        "run", "--project", "acme/shop", "--build-root", "sandbox", "--builder", "embedded", "--cache-dir", str(CACHE),
        "--bucket", f"s3://{bucket}", "--output",
        str(tmp_path / "packages"), status=5, env=s3_server.env,
    )  # fmt: skip
    assert "pushing needs a signing key of your own" in done.stderr
    assert "pakman keygen" in done.stderr
    # Said before the build, which may take long.
    assert "==>" not in done.stderr
    assert not (tmp_path / "packages").exists()


def test_what_a_throwaway_key_signed_is_not_pushed_later_either(
    application: Application, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    packages = str(tmp_path / "packages")
    application.pakman(
        "build", "--project", "acme/shop", "--build-root", "sandbox", "--builder", "embedded",
        "--cache-dir", str(CACHE), "--output", packages,
    )  # fmt: skip
    push = ["push", packages, "--bucket", f"s3://{bucket}"]
    done = application.pakman(*push, status=5, env=s3_server.env)
    assert "pushing needs a signing key of your own" in done.stderr
    assert "pakman keygen" in done.stderr
    # The key's place in the bucket is still free for the one that comes to stay.
    application.pakman("build", *build_flags(tmp_path), "--output", packages)
    assert "apk add shop\nrc-service shop start\n" in application.pakman(*push, env=s3_server.env).stdout


def test_an_architecture_that_the_manifest_leaves_out_is_skipped(application: Application, tmp_path: Path) -> None:
    manifest = application.path / "instellar.yml"
    manifest.write_text(manifest.read_text() + "architectures: [s390x]\n")
    outputs = tmp_path / "outputs"
    done = application.pakman(
        "run",
        "--no-test",
        *build_flags(tmp_path),
        "--output",
        str(tmp_path / "packages"),
        env={"GITHUB_OUTPUT": str(outputs)},
    )
    assert "nothing to build on" in done.stderr
    assert demo.parsed(outputs.read_text())["skipped"] == "this machine's is not among the architectures to build for"


def test_a_failing_build_says_what_failed_and_leaves_nothing(application: Application, tmp_path: Path) -> None:
    manifest = application.path / "instellar.yml"
    manifest.write_text(manifest.read_text().replace("    env > out/environment", "    echo almost; false"))
    summary = tmp_path / "summary"
    done = application.pakman(
        "run",
        "--no-test",
        *build_flags(tmp_path),
        "--output",
        str(tmp_path / "packages"),
        status=4,
        env={"GITHUB_STEP_SUMMARY": str(summary)},
    )
    assert "almost" in done.stderr
    assert "pakman failed" in summary.read_text()
    assert list((tmp_path / "packages").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [("binary: shop\n      start", "bin/shap"), ("chmod +x out/bin/shop", "bin/shop"), ("", "")],
    ids=["another", "not-executable", "there"],
)
def test_a_program_that_is_not_in_the_package_is_said(
    application: Application, tmp_path: Path, change: str, missing: str
) -> None:
    manifest = application.path / "instellar.yml"
    changed = {"bin/shap": change.replace("shop", "shap"), "bin/shop": "true"}.get(missing, change)
    manifest.write_text(manifest.read_text().replace(change, changed) if change else manifest.read_text())
    done = application.pakman("build", *build_flags(tmp_path), "--output", str(tmp_path / "packages"))
    said = f"notice: /var/lib/shop/{missing} is no program in the package, and run needs it: it is not there, or not"
    assert (said in done.stderr) == bool(missing)
    assert done.stderr.count("is no program in the package") == bool(missing)


def test_inspect_says_who_signed(application: Application, tmp_path: Path) -> None:
    application.pakman("build", *build_flags(tmp_path), "--output", str(tmp_path / "packages"))
    package = next((tmp_path / "packages").rglob("shop-1*.apk"))
    shown = application.pakman("inspect", str(package), "--key", str(tmp_path / "packages/acme-shop.rsa.pub")).stdout
    assert NASTY in shown
    application.pakman("keygen", "--project", "acme/other", "--output", str(tmp_path))
    done = application.pakman("inspect", str(package), "--key", str(tmp_path / "acme-other.rsa.pub"), status=5)
    assert "acme-shop.rsa.pub" in done.stderr


PAGE = """\
stack: alpine/3.23
build:
  command: printf '%s\\n' "$pkgver" > page
  destinations: [page]
test:
  packages: []
  command: {command}
"""
"""An application without services: what is about the gate alone."""


def shipped(
    application: Application, bucket: str, server: S3Server, tmp_path: Path, *flags: str, status: int = 0
) -> tuple[dict[str, str], str, str]:
    """Let `pakman run` test and push in a GitHub job; return the step's outputs, its log and its summary."""
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    for file in (outputs, summary):
        file.write_text("")
    done = application.pakman(
        "run", *build_flags(tmp_path), "--run-root", "sandbox", "--bucket", f"s3://{bucket}", "--output", "packages",
        *flags, status=status,
        env={
            "GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_WORKSPACE": str(application.path), **server.env,
        },
    )  # fmt: skip
    return demo.parsed(outputs.read_text()), done.stdout, summary.read_text()


def committed(application: Application, tag: str, manifest: str) -> None:
    """Commit another manifest, and tag it."""
    (application.path / "instellar.yml").write_text(manifest)
    (application.path / ".gitignore").write_text("/packages\n")
    application.git("add", "--all")
    application.git("commit", "--quiet", f"--message={tag}")
    application.git("tag", tag)


def test_a_package_that_fails_its_test_never_reaches_the_bucket(
    application: Application, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    committed(application, "v1.0.1", PAGE.format(command="grep 2.0 /var/lib/shop/page"))
    outputs, log, summary = shipped(application, bucket, s3_server, tmp_path, status=8)
    assert s3_server.client().list_objects_v2(Bucket=bucket).get("Contents", []) == []
    assert (outputs["test-result"], outputs["version"]) == ("failed", "1.0.1-r0")
    assert "repository-url" not in outputs
    assert '<testsuite name="shop 1.0.1-r0"' in (application.path / outputs["test-report"]).read_text()
    (error,) = [line for line in log.splitlines() if line.startswith("::error file=")]
    assert error.startswith("::error file=instellar.yml,line=7,")
    assert summary.startswith("## pakman failed")
    assert "| failed | " in summary
    assert "| passed | " in summary


def test_what_is_in_the_bucket_is_upgraded_from(
    application: Application, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    committed(application, "v1.0.1", PAGE.format(command="grep 1.0.1 /var/lib/shop/page"))
    _, log, _ = shipped(application, bucket, s3_server, tmp_path)
    assert "1.0.1_alpha-r0" in log
    committed(application, "v1.0.2", PAGE.format(command="grep 1.0.2 /var/lib/shop/page"))
    outputs, log, summary = shipped(application, bucket, s3_server, tmp_path)
    assert "1.0.1-r0" in log
    assert "1.0.2_alpha" not in log
    assert (outputs["test-result"], outputs["test-skipped"]) == ("passed", "")
    assert "checks passed</summary>" in summary
    stored = {each["Key"] for each in s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]}
    assert not any(key.endswith(".xml") for key in stored)
    assert {key.rpartition("/")[2] for key in stored} >= {"shop-1.0.1-r0.apk", "shop-1.0.2-r0.apk"}


def test_a_package_that_is_not_tested_says_so(
    application: Application, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    committed(application, "v1.0.1", PAGE.format(command="'false'"))
    stale = application.path / "packages" / os.uname().machine / "test-report.xml"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier version")
    outputs, _, summary = shipped(application, bucket, s3_server, tmp_path, "--no-test")
    assert (outputs["test-result"], outputs["test-skipped"]) == (
        "skipped",
        "--no-test, or the input test, leaves it out",
    )
    assert "test-report" not in outputs
    assert not stale.exists()
    assert "| skipped | the package test: \\-\\-no" in summary or "| skipped | the package test: --no" in summary
    assert s3_server.client().list_objects_v2(Bucket=bucket)["KeyCount"] > 0

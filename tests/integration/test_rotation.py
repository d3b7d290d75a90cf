"""One key takes the place of another: what the real apk of a machine says, from the first push to the last."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from pakman import signing
from tests.integration.conftest import CACHE, AlpineRoot
from tests.integration.test_main_job import PAGE, Application, application, committed
from tests.servers import S3Server
from tests.test_github import parse_outputs

__all__ = ["application"]

OLD = "acme-shop.rsa.pub"
HAS = "apk list --installed --manifest shop"


def private_lines(*files: Path) -> set[str]:
    """All that is secret in the files of private keys."""
    return {line for file in files for line in file.read_text().splitlines() if ":" not in line and "-----" not in line}


@pytest.fixture
def new(application: Application, tmp_path: Path) -> Path:
    """The key that follows, its private half."""
    said = application.pakman("keygen", "--rotate", "--project", "acme/shop", "--output", str(tmp_path)).stdout
    (private,) = tmp_path.glob("acme-shop-*.rsa")
    assert not private_lines(private) & set(said.split())
    return private


def test_openssl_reads_a_key_that_carries_its_name(tmp_path: Path) -> None:
    new, public = signing.rotate(tmp_path, "acme", "shop")
    for program in (["rsa", "-check"], ["pkey"]):
        done = subprocess.run(
            ["openssl", *program, "-in", str(new), "-pubout"], capture_output=True, text=True, check=True
        )
        assert public.read_text() in done.stdout


@pytest.mark.alpine
@pytest.mark.s3
@pytest.mark.git
def test_one_key_takes_the_place_of_another(
    application: Application, s3_server: S3Server, alpine_root: AlpineRoot, tmp_path: Path, new: Path
) -> None:
    bucket = f"rotation-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    old, said = tmp_path / "acme-shop.rsa", []
    # Where keygen leaves them by default: a build that packs all that lies there packs neither.
    for key in (old, new):
        shutil.copy(key, application.path)

    def pushed(version: str, **keys: Path) -> None:
        """Ship a commit in a job."""
        committed(application, f"v{version}", PAGE.format(command=version).replace("[page]", "['*']"))
        done = application.pakman(
            "run", "--no-test", "--project=acme/shop", "--build-root=sandbox", "--builder=embedded",
            f"--cache-dir={CACHE}", f"--bucket=s3://{bucket}", "--channel=stable", "--log-level=debug",
            "--output=packages",
            env={
                "GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(tmp_path / "outputs"), **s3_server.env,
                **{f"PAKMAN_{name.upper()}": key.read_text() for name, key in keys.items()},
            },
        )  # fmt: skip
        said.extend([done.stdout, *(line for line in done.stderr.splitlines() if not line.startswith("::add-mask::"))])
        masked = {line.removeprefix("::add-mask::") for line in done.stderr.splitlines() if "add-mask" in line}
        assert private_lines(*keys.values()) <= masked
        assert not any(word in f"{new.name}.pub" for word in masked)

    url = f"{s3_server.endpoint}/{bucket}/channels/stable"
    trusted = alpine_root.path / "etc/apk/keys"
    shutil.rmtree(trusted)
    trusted.mkdir()
    pushed("1.1.0", signing_key=old)
    alpine_root.sh(f"wget -qO- {url}/install.sh | sh")
    never = AlpineRoot(tmp_path / "never")  # a machine that will not get the new key
    shutil.copytree(alpine_root.path, never.path, symlinks=True)

    pushed("1.2.0", signing_key=new, previous_signing_key=old)
    assert {path.name for path in trusted.iterdir()} == {OLD}
    assert alpine_root.sh(f"apk upgrade -U --quiet; {HAS}") == "shop 1.2.0-r0\n"
    alpine_root.sh(f"wget -qO- {url}/install.sh | sh; rm /etc/apk/keys/{OLD}")
    assert {path.name for path in trusted.iterdir()} == {f"{new.name}.pub"}
    # What the old key alone has signed is in an index that the new one has signed.
    assert alpine_root.sh(f"apk add --quiet shop=1.1.0-r0; {HAS}; apk add --quiet 'shop>1.1'") == "shop 1.1.0-r0\n"

    pushed("1.3.0", signing_key=new)
    assert alpine_root.sh(f"apk upgrade -U --quiet; {HAS}") == "shop 1.3.0-r0\n"
    done = never.run("apk", "upgrade", "-U", "--no-progress")
    assert b"UNTRUSTED signature" in done.stdout + done.stderr
    assert never.sh(HAS) == "shop 1.1.0-r0\n"

    stored = {each["Key"]: each for each in s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]}
    assert {key for key in stored if key.startswith("keys/")} == {f"keys/{OLD}", f"keys/{new.name}.pub"}
    left = [*said, (tmp_path / "outputs").read_text()]
    left += [
        path.read_bytes().decode("latin-1")
        for folder in (application.path / "packages", alpine_root.path / "var/lib/shop")
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert not [line for line in private_lines(old, new) if any(line in text for text in left)]
    assert parse_outputs((tmp_path / "outputs").read_text())["key-name"] == f"{new.name}.pub"

"""The door as a shell sees it: streams that are closed, full or of another alphabet; signals at a bad moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pakman import signing
from tests.integration.conftest import CACHE
from tests.servers import S3Server

VALID = """\
stack: alpine/3.23
build:
  destinations: [public]
"""
PAKMAN = [sys.executable, "-m", "pakman"]


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A folder with a valid manifest and what it packs."""
    folder = tmp_path / "shop"
    (folder / "public").mkdir(parents=True)
    (folder / "public/index.html").write_text("hello\n")
    (folder / "instellar.yml").write_text(VALID)
    return folder


def sh(script: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script in which `pakman` is pakman."""
    function = f'pakman() {{ "{sys.executable}" -m pakman "$@"; }}\n'
    path = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    return subprocess.run(["sh", "-c", function + script], cwd=cwd, env=path | env, capture_output=True, check=False)


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "validate", "validate --format json"])
def test_a_full_disk_behind_stdout_is_one_sentence(application: Path, command: str, buffered: str) -> None:
    done = sh(f"pakman {command} > /dev/full", application, PYTHONUNBUFFERED=buffered)
    assert done.stderr == b"pakman: error: its output cannot be written: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize("command", ["--version", "--help", "validate", "validate --format json"])
def test_a_reader_that_goes_away_is_no_error(application: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PAKMAN, *command.split()],
        cwd=application,
        env={"PATH": os.environ["PATH"]},  # Python's streams as they are by default, with buffers
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("job", ["", "true"])
def test_streams_may_be_closed(application: Path, closed: str, job: str) -> None:
    done = sh(f"pakman generate --project acme/shop --output recipe {closed}", application, GITHUB_ACTIONS=job)
    assert done.returncode == 0, done.stderr
    # None of what was said went into a file that happened to be opened under a stream's number.
    assert (application / "recipe/APKBUILD").read_text().count("acme/shop 0.0.0") == 0
    assert b"Error" not in done.stderr


def test_an_error_that_nobody_hears_has_its_exit_code(application: Path) -> None:
    (application / "instellar.yml").write_text("build: 3\n")
    assert sh("pakman generate --project acme/shop --output recipe 2>/dev/full", application).returncode != 0
    assert sh("pakman push nowhere --bucket s3://bucket 2>/dev/full", application).returncode == 2


def test_a_signing_key_without_end_is_no_key(application: Path) -> None:
    done = sh("ulimit -v 2000000; pakman run --project acme/shop --signing-key /dev/zero", application)
    assert done.returncode == 5
    assert b"the signing key is not a private key in PEM" in done.stderr


def test_any_text_is_printed_in_any_alphabet(application: Path) -> None:
    name = os.fsdecode(b"\xff\xc3\xa9.yml")
    (application / name).write_text(VALID + "bézier: 1\n")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for env in (ascii_only, {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"}):
        done = sh("pakman validate *é.yml --format json", application, **env)
        assert done.returncode == 3, done.stderr
        (problem,) = json.loads(done.stdout)
        assert problem["path"] == "bézier"
        assert problem["file"].endswith("é.yml") or ascii_only.items() <= env.items()
        for style in ("text", "github"):
            done = sh(f"pakman validate *é.yml --format {style}", application, **env)
            assert (done.returncode, done.stderr) == (3, b"")
            assert b"is no key of a manifest" in done.stdout


@pytest.mark.s3
@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({}, "there is no such bucket"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "no credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "secret"),
    ],
)
def test_a_bucket_that_cannot_be_had_is_said_before_the_build(
    application: Path, tmp_path: Path, s3_server: S3Server, env: dict[str, str], sentence: str
) -> None:
    summary, (key, _) = application / "summary", signing.keygen(tmp_path / "keys", "acme-shop.rsa.pub")
    job = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_REPOSITORY": "acme/shop", "PAKMAN_SIGNING_KEY": key.read_text()}
    everything = s3_server.env | job | env
    done = sh("pakman run --bucket s3://nowhere-at-all", application, **everything)
    assert done.returncode == 6, done.stderr
    assert sentence in done.stderr.decode()
    assert b"==>" not in done.stderr
    assert summary.read_text().startswith("## pakman failed")
    assert not (application / "packages").exists()


@pytest.mark.alpine
@pytest.mark.parametrize(
    ("signals", "status", "word"),
    [
        ([signal.SIGHUP], 129, "hung up"),
        ([signal.SIGINT], 130, "interrupted"),
        ([signal.SIGTERM], 143, "terminated"),
        # A job that is cancelled; Ctrl-C by somebody without patience.
        ([signal.SIGINT, signal.SIGTERM], 130, "interrupted"),
        ([signal.SIGTERM, signal.SIGTERM, signal.SIGHUP], 143, "terminated"),
    ],
    ids=lambda value: "-".join(each.name for each in value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("alpine_pristine")
def test_whatever_signal_ends_a_build_nothing_is_left(
    application: Path, tmp_path: Path, signals: list[signal.Signals], status: int, word: str
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "roots").symlink_to(CACHE / "roots")
    (application / "instellar.yml").write_text(f"{VALID}  command: echo it runs; sleep 1234.5\n")
    output = tmp_path / "packages"
    flags = ["--project", "acme/shop", "--build-root", "sandbox", "--builder", "embedded"]
    flags += ["--cache-dir", str(cache), "--output", str(output)]
    with subprocess.Popen([*PAKMAN, "run", *flags], cwd=application, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("it runs" in line for line in process.stderr)
        for each in signals:
            process.send_signal(each)
            time.sleep(0.005)
        said = process.stderr.read()
        process.wait(timeout=20)
    assert (process.returncode, said) == (status, f"pakman: {word}\n")
    assert list(output.iterdir()) == []
    assert list((cache / "views").iterdir()) == []
    assert subprocess.run(["pgrep", "-f", "sleep 1234.5"], check=False, capture_output=True).stdout == b""

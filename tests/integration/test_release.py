"""The jobs of a matrix push an architecture each; `pakman release` makes one release of them, once."""

from __future__ import annotations

import json
import platform
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pakman import archive, cli, notify
from pakman import release as story
from pakman.channels import Channel
from pakman.pushed import Commit, fetch
from pakman.repository import BuiltBy, Repository
from tests import demo
from tests.instellar_service import Fault, Receiver, running
from tests.integration.conftest import AlpineRoot
from tests.packages import MTIME
from tests.packages import key as key_called
from tests.proxy import Request, proxy, s3_error
from tests.readers import Reader
from tests.repositories import COMMIT, signed_repository
from tests.stores import KEY, Store, pem

pytestmark = [pytest.mark.s3, pytest.mark.git]

ARCH = platform.machine()
OTHER = "aarch64" if ARCH == "x86_64" else "x86_64"
BOTH = tuple(sorted((ARCH, OTHER)))
EXPECT = f"--expect={ARCH},{OTHER}"
FOLDER = f"deployments/acme/notes/{COMMIT}"
NAMES = ("notes", "notes-openrc")
SECRET = "a-long-random-text-0123456789"


Pakman = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pakman(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pakman:
    """A command line to this bucket, as in a job of acme/Notes; returns the exit code, stdout and stderr."""
    variables = {**store.server.env, "GITHUB_REPOSITORY": "acme/Notes", "GITHUB_SHA": COMMIT}
    variables |= {"PAKMAN_SIGNING_KEY": pem(key_called(KEY)).decode(), "PAKMAN_NOTIFY_SECRET": SECRET}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, f"--bucket={store.location}"])
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        return code, out, err

    return run


def built(folder: Path, *arches: str, **more: Any) -> dict[str, Repository]:
    """Build each architecture in a folder of its own, as the jobs of a matrix do."""
    return {arch: signed_repository(folder / arch, arch=arch, names=NAMES, **more) for arch in arches or BOTH}


def pushed(pakman: Pakman, repositories: dict[str, Repository]) -> dict[str, Repository]:
    for each in repositories.values():
        assert pakman("push", str(each.directory))[0] == 0
    return repositories


def stamps(store: Store) -> dict[str, tuple[str, object]]:
    """The ETag and the time of each object."""
    found = store.client.list_objects_v2(Bucket=store.location.name, Prefix=f"{store.location.prefix}/")
    stamped = {item["Key"]: (item["ETag"], item["LastModified"]) for item in found.get("Contents", ())}
    stamped.pop(store.location.key("conditional-writes"), None)
    return stamped


@pytest.mark.alpine
def test_two_architectures_are_one_release_that_apk_installs(
    store: Store, pakman: Pakman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alpine_root: AlpineRoot
) -> None:
    made = pushed(pakman, built(tmp_path / "built"))
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, err = pakman("release", EXPECT, "--channel=stable")
    assert code == 0, err
    assert f"{OTHER}: notes 1.0.0-r0, 2 packages (builder: embedded)\n" in err
    url = f"{store.server.endpoint}/{store.location.name}/{store.location.prefix}"
    assert out.splitlines()[-2:] == [f"wget -qO- {url}/channels/stable/install.sh | sh", "rc-service notes start"]

    objects = store.objects()
    (archived,) = (name for name in objects if name.startswith("archives/"))
    files = {f"{each.arch}/{path.name}": path for each in made.values() for path in (each.index.parent.glob("*.*z"))}
    files |= {f"{each.arch}/{one.path.name}": one.path for each in made.values() for one in each.packages}
    with zipfile.ZipFile(BytesIO(objects[archived])) as unpacked:
        assert {name: unpacked.read(name) for name in unpacked.namelist()} == {
            name: path.read_bytes() for name, path in files.items()
        }
    prefix = store.location.prefix
    told = json.loads(objects[f"{FOLDER}/release.json"])
    assert told == {
        "owner": "acme", "project": "Notes", "slug": "notes", "name": "notes", "version": "1.0.0-r0",
        "commit": COMMIT, "time": "2023-11-14T22:13:20Z", "stack": "alpine/3.23",
        "builder": {arch: {"name": "embedded", "pakman": "0.1.0"} for arch in BOTH},
        "repository": f"{prefix}/{FOLDER}", "public_key": f"{prefix}/keys/{KEY}", "archive": f"{prefix}/{archived}",
        "channel": {"name": "stable", "path": f"{prefix}/channels/stable"},
        "packages": [
            {
                "name": name, "version": "1.0.0-r0", "arch": arch, "file": f"{arch}/{name}-1.0.0-r0.apk",
                "size": package.size, "sha256": package.sha256,
            }
            for arch in BOTH for name, package in zip(NAMES, made[arch].packages, strict=True)
        ],
    }  # fmt: skip
    assert MTIME == 1_700_000_000

    found = demo.parsed(outputs.read_text().split("skipped=\n")[-2] + "skipped=\n")
    assert found["release-path"] == f"{prefix}/{FOLDER}/release.json"
    assert found["release-url"] == f"{url}/{FOLDER}/release.json"
    assert found["archive-path"] == told["archive"]
    assert found["channel-url"] == f"{url}/channels/stable"
    assert (found["arch"], found["commit"], found["version"]) == (" ".join(BOTH), COMMIT, "1.0.0-r0")
    assert json.loads(found["packages"]) == told["packages"]
    assert "package-dir" not in found
    assert f"| notes | 1.0.0-r0 | {OTHER.replace('_', chr(92) + '_')} | " in summary.read_text()
    assert f"- Release: `{found['release-url']}`" in summary.read_text()

    # A deployment of the commit takes the same archive. Run twice, nothing changes.
    wanted = archive.entries(store.bucket, f"{prefix}/{FOLDER}", BOTH)
    assert archive.ship(store.bucket, wanted) == told["archive"]
    before = stamps(store)
    code, again, _ = pakman("release", f"--expect={OTHER} {ARCH}", "--channel=stable", "--format=json")
    assert code == 0
    assert again.encode() == objects[f"{FOLDER}/release.json"]
    assert stamps(store) == before

    code, verified, err = pakman("repository", "verify", "stable")
    assert code == 0, err
    assert verified.startswith("stable: 4 packages, ")
    assert verified.endswith(": all is well\n")
    alpine_root.sh(f"wget -qO- {url}/channels/stable/install.sh | sh")
    assert alpine_root.sh("cat /usr/share/notes/version") == "1.0.0-r0"
    alpine_root.sh(
        f"""
        mkdir -p /other/etc/apk
        cp -r /etc/apk/keys /other/etc/apk/keys
        echo {url}/channels/stable > /other/etc/apk/repositories
        apk add --root /other --arch {OTHER} --initdb --no-scripts notes
        """
    )
    assert alpine_root.sh("cat /other/usr/share/notes/version /other/etc/apk/arch") == f"1.0.0-r0{OTHER}\n"


def test_what_is_missing_is_named_with_what_is_there(store: Store, pakman: Pakman, tmp_path: Path) -> None:
    where = f"{store.location.prefix}/{FOLDER} in {store.location}"
    code, _, err = pakman("release", EXPECT)
    assert code == 6
    assert f"{where} has no packages for aarch64 and x86_64 yet" in err
    assert "is this what they were pushed as (--sha, --project), and where to (--bucket, --prefix)?" in err
    made = built(tmp_path / "built")
    pushed(pakman, {ARCH: made[ARCH]})
    before = stamps(store)
    code, _, err = pakman("release", EXPECT, "--channel=stable", "--notify-url=https://127.0.0.1:1/")
    assert code == 6
    assert f"{where} has packages for {ARCH}, but none for {OTHER} yet\n" in err
    assert "did a job of the matrix fail" in err
    assert stamps(store) == before


def test_a_channel_needs_the_key_of_the_packages(
    store: Store, pakman: Pakman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", "")
    code, _, err = pakman("release", EXPECT, "--channel=stable")
    assert code == 5
    assert "--channel needs the signing key" in err
    pushed(pakman, built(tmp_path / "built"))
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", pem(key_called("another")).decode())
    before = stamps(store)
    code, _, err = pakman("release", EXPECT, "--channel=stable")
    assert code == 5
    assert f"the signing key is not {KEY}" in err
    assert stamps(store) == before
    assert pakman("release", EXPECT)[0] == 0


def test_a_commit_is_released_once(store: Store, pakman: Pakman, tmp_path: Path) -> None:
    pushed(pakman, built(tmp_path / "built"))
    assert pakman("release", EXPECT, "--channel=stable")[0] == 0
    before = stamps(store)
    for words, difference in (
        ((EXPECT, "--channel=edge"), "another channel (it joined stable)"),
        ((EXPECT,), "another channel (it joined stable)"),
        ((f"--expect={ARCH}", "--channel=stable"), "another builder and archive and packages"),
    ):
        code, _, err = pakman("release", *words)
        assert code == 6
        assert f"release.json is in {store.location} already, with {difference}: nothing was changed" in err
        assert "a commit is released once" in err
    assert stamps(store) == before
    # What was taken out of the channel since stays out.
    store.channel().edit(ARCH, lambda _stanzas: ())
    before = stamps(store)
    code, _, err = pakman("release", EXPECT, "--channel=stable")
    assert code == 0
    assert "release.json is there already: nothing was changed" in err
    assert stamps(store) == before
    key = f"{store.location.prefix}/{FOLDER}/release.json"
    store.client.put_object(Bucket=store.location.name, Key=key, Body=b"[")
    assert "already, with other content" in pakman("release", EXPECT, "--channel=stable")[2]
    # Whoever wrote it, what is said of it is no more than a name.
    for channel, said in (
        ("null", "channel (it joined none) and packages"),
        ('{"name": "\\u001b[2J"}', "channel and packages"),
        ("[1]", "channel and packages"),
    ):
        store.client.put_object(Bucket=store.location.name, Key=key, Body=f'{{"channel": {channel}}}'.encode())
        assert f" and {said}" in pakman("release", EXPECT, "--channel=stable")[2]


def test_a_job_that_is_run_again_with_a_newer_pakman_changes_nothing(
    store: Store, pakman: Pakman, tmp_path: Path
) -> None:
    made = pushed(pakman, built(tmp_path / "built"))
    assert pakman("release", EXPECT)[0] == 0
    before = stamps(store)
    newer = replace(made[ARCH], builder=BuiltBy("abuild", "0.2.0"))
    newer.manifest_file.write_text(newer.to_json())
    for words in ((), ("--dry-run",)):
        code, _, err = pakman("push", str(newer.directory), *words)
        assert code == 0
        assert (
            f"{FOLDER}/{ARCH}/packages.json stays as it is: pakman 0.1.0 (builder: embedded) has made the same" in err
        )
    assert pakman("release", EXPECT)[0] == 0
    assert stamps(store) == before
    # Other packages are refused as ever.
    other = built(tmp_path / "other", ARCH, sizes={"notes": 100})[ARCH]
    code, _, err = pakman("push", str(other.directory))
    assert code == 6
    assert "with other bytes: nothing was overwritten" in err
    assert stamps(store) == before


def test_a_dry_run_stores_nothing(store: Store, pakman: Pakman, tmp_path: Path) -> None:
    pushed(pakman, built(tmp_path / "built"))
    before = stamps(store)
    code, _, err = pakman("release", EXPECT, "--channel=stable", "--dry-run", "--notify-url=https://127.0.0.1:1/")
    assert code == 0
    assert f"would be stored: {store.location.prefix}/channels/stable/{OTHER}/notes-1.0.0-r0.apk" in err
    assert f"would be stored: {store.location.prefix}/{FOLDER}/release.json" in err
    assert f"would be brought up to date: {store.location.prefix}/channels/stable/{OTHER}/APKINDEX.tar.gz" in err
    assert stamps(store) == before
    assert pakman("release", EXPECT, "--channel=stable")[0] == 0
    before = stamps(store)
    code, _, err = pakman("release", EXPECT, "--channel=stable", "--dry-run")
    assert code == 0
    there = f"{store.location.prefix}/{FOLDER}/release.json"
    assert f"nothing was released: {there} is there already" in err
    assert "would be" not in err
    assert stamps(store) == before


def test_two_releases_at_once_are_one(store: Store, pakman: Pakman, tmp_path: Path) -> None:
    pushed(pakman, built(tmp_path / "built"))

    def make(number: int) -> story.Release:
        folder = tmp_path / f"{number}"
        with closing(store.bucket) as bucket:
            found = fetch(bucket, Commit("acme", "notes", COMMIT), BOTH, folder / "pushed")
            channel = Channel(bucket, "stable", [key_called(KEY)])
            return story.release(bucket, found.repositories, folder, channel=channel)

    with Reader(store, tmp_path / "read").polling(), ThreadPoolExecutor(3) as pool:
        made = list(pool.map(make, range(3)))
    assert len({each.body for each in made}) == 1
    objects = store.objects()
    assert objects[f"{FOLDER}/release.json"] == made[0].body
    assert len([name for name in objects if name.startswith("archives/")]) == 1
    assert [store.versions(arch=arch) for arch in BOTH] == [["notes-1.0.0-r0", "notes-openrc-1.0.0-r0"]] * 2


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("/archives/", "with another channel (it joined stable): nothing was changed"),
        (
            "/channels/edge/SHA256SUMS",
            "with another channel (it joined stable): another release was quicker, but its packages have joined",
        ),
    ],
)
def test_a_release_that_another_one_overtakes_says_what_it_has_done(
    store: Store, pakman: Pakman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, sentence: str
) -> None:
    pushed(pakman, built(tmp_path / "built"))
    made: list[story.Release] = []

    def before(request: Request) -> None:
        if request.method != "PUT" or place not in request.path or made:
            return
        with closing(store.bucket) as bucket:
            found = fetch(bucket, Commit("acme", "notes", COMMIT), BOTH, tmp_path / "pushed")
            made.append(story.release(bucket, found.repositories, tmp_path, channel=store.channel("stable")))

    with proxy(store.server.endpoint, before=before) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        code, _, err = pakman("release", EXPECT, "--channel=edge")
    assert code == 6
    assert sentence in err
    objects = store.objects()
    assert objects[f"{FOLDER}/release.json"] == made[0].body
    has_joined = any(name.startswith("channels/edge/") for name in objects)
    assert (has_joined, "pakman repository rollback edge" in err) == (
        (True, True) if "edge" in place else (False, False)
    )


def test_a_release_that_broke_is_finished_by_the_next(
    store: Store, pakman: Pakman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(pakman, built(tmp_path / "built"))
    broken = ["/archives/", f"/channels/stable/{BOTH[1]}/APKINDEX", "/release.json"]

    def before(request: Request) -> Any:
        return s3_error(403, "AccessDenied") if request.method == "PUT" and broken[0] in request.path else None

    with proxy(store.server.endpoint, before=before) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        while broken:
            assert pakman("release", EXPECT, "--channel=stable")[0] == 6
            assert f"{FOLDER}/release.json" not in store.objects()
            broken.pop(0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.server.endpoint)
    assert pakman("release", EXPECT, "--channel=stable")[0] == 0
    assert f"{FOLDER}/release.json" in store.objects()
    assert [store.versions(arch=arch) for arch in BOTH] == [["notes-1.0.0-r0", "notes-openrc-1.0.0-r0"]] * 2


def test_a_receiver_is_told_what_lies_in_the_bucket(store: Store, pakman: Pakman, tmp_path: Path) -> None:
    pushed(pakman, built(tmp_path / "built"))
    with running(Receiver({})) as receiver:
        receiver.before = lambda _asked: Fault(418, b"I am a teapot")
        url = f"--notify-url={receiver.endpoint}/hooks/the-path"
        code, _, err = pakman("release", EXPECT, url)
        assert code == 7
        assert f"{receiver.endpoint} does not take the release (418): I am a teapot" in err
        # All is there but the notice, which the next run makes up for.
        before, receiver.before = stamps(store), lambda _asked: None
        code, out, err = pakman("release", EXPECT, url)
        assert code == 0
        assert "the-path" not in out + err
        assert stamps(store) == before
        first, second = receiver.asked
    assert first.body == second.body == store.objects()[f"{FOLDER}/release.json"]
    assert second.headers["x-pakman-signature-256"] == notify.signature(second.body, SECRET)
    assert first.headers["x-pakman-delivery"] == second.headers["x-pakman-delivery"]


@pytest.mark.parametrize(
    ("words", "secret", "sentence"),
    [
        (("--notify-url=https://hooks.example.com/",), "", "no secret to sign with"),
        (("--notify-url=http://hooks.example.com/",), SECRET, "would read the release"),
        (("--channel=Stable",), SECRET, "cannot be a channel's name"),
        (("--sha=main",), SECRET, "--sha is 'main', but it should be a full commit SHA"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused_before_anybody_is_asked(
    pakman: Pakman, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], secret: str, sentence: str
) -> None:
    monkeypatch.setenv("PAKMAN_NOTIFY_SECRET", secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    code, _, err = pakman("release", EXPECT, *words)
    assert code == 2
    assert sentence in err


def test_a_fork_s_pull_request_is_not_released(
    store: Store, pakman: Pakman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTOR", "dependabot[bot]")
    code, _, err = pakman("release", EXPECT)
    assert code == 0
    assert "nothing was released: GitHub gives Dependabot's jobs no secrets" in err
    assert store.objects() == {}

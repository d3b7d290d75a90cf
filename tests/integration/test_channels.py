"""A channel grows with every push, whoever else pushes, and the real apk installs and upgrades from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from pakman import cli
from pakman.apk.index import parse_index
from pakman.bucket import Bucket
from pakman.channels import Channel, adding
from pakman.errors import BucketError
from tests.integration.conftest import AlpineRoot
from tests.packages import key as key_called
from tests.proxy import Answer, Request, proxy
from tests.repositories import signed_repository
from tests.stores import ARCH, KEY, Store, pem

pytestmark = pytest.mark.s3


@pytest.fixture
def push(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`pakman push DIR` with the rest of the command line; returns the exit code, stdout and stderr."""
    for name, value in store.server.env.items():
        monkeypatch.setenv(name, value)
    private = tmp_path / "key.pem"
    private.write_bytes(pem(key_called(KEY)))

    def run(directory: Path, *words: str, key: Path | None = private) -> tuple[int, str, str]:
        flags = [] if key is None else ["--signing-key", str(key)]
        code = cli.main(["push", str(directory), "--bucket", str(store.location), *flags, *words])
        return code, *capsys.readouterr()

    return run


Push = Callable[..., tuple[int, str, str]]


def test_every_push_adds_to_the_channel(store: Store, push: Push, tmp_path: Path, alpine_root: AlpineRoot) -> None:
    sums: dict[str, str] = {}
    for number, version in enumerate(("1.0.0-r0", "1.10.0-r0", "1.9.0-r0")):
        built = signed_repository(
            tmp_path / version, version, arch=ARCH, commit=f"{number:040x}", names=("notes", "notes-openrc")
        )
        assert push(tmp_path / version, "--channel", "stable")[0] == 0
        sums |= {f"{ARCH}/{each.path.name}": each.sha256 for each in built.packages}
    channel = {
        name.removeprefix("channels/stable/"): body
        for name, body in store.objects().items()
        if name.startswith("channels/")
    }
    assert set(channel) == {
        *sums,
        f"{ARCH}/APKINDEX.tar.gz",
        f"latest/{ARCH}/notes.apk",
        f"latest/{ARCH}/notes-openrc.apk",
        "SHA256SUMS",
        "install.sh",
    }
    assert {name: hashlib.sha256(channel[name]).hexdigest() for name in sums} == sums
    assert channel["SHA256SUMS"].decode() == "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    assert channel[f"latest/{ARCH}/notes.apk"] == channel[f"{ARCH}/notes-1.10.0-r0.apk"], "1.9.0 came last"
    before = store.objects()
    assert push(tmp_path / "1.9.0-r0", "--channel", "stable")[0] == 0
    assert store.objects() == before

    url = f"{store.server.endpoint}/{store.location.name}/{store.location.prefix}/channels/stable"
    alpine_root.sh(f"wget -qO- {url}/install.sh | sh")
    found = alpine_root.sh("apk search --exact --all notes; cat /usr/share/notes/version")
    assert sorted(found.split()) == ["1.10.0-r0", "notes-1.0.0-r0", "notes-1.10.0-r0", "notes-1.9.0-r0"]


def test_what_went_where_is_told(store: Store, push: Push, tmp_path: Path) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)
    code, out, err = push(tmp_path / "built", "--channel", "stable", "--dry-run")
    assert code == 0
    assert store.objects() == {}
    code, out, _ = push(tmp_path / "built", "--channel", "stable")
    assert code == 0
    said = re.findall(r"^would be (?:stored|brought up to date): (\S+)$", err, re.MULTILINE)
    assert sorted(said) == sorted(f"{store.location.prefix}/{name}" for name in store.names())
    url = f"{store.server.endpoint}/{store.location.name}/{store.location.prefix}/channels/stable"
    assert f"wget -qO- {url}/install.sh | sh\n" in out
    code, _, err = push(tmp_path / "built", "--channel", "stable", "--dry-run")
    assert code == 0
    assert "would be" not in err, "nothing would change"
    err = push(tmp_path / "built", "--channel=stable", "--dry-run", "--public-url=https://cdn.example.com")[2]
    assert "would be brought up to date" in err
    code, out, _ = push(tmp_path / "built", "--channel", "stable", "--format", "json")
    assert json.loads(out)["channel"] == {
        "name": "stable",
        "path": f"{store.location.prefix}/channels/stable",
        "url": url,
        "install_script_url": f"{url}/install.sh",
        "uploaded": [],
        "skipped": [f"{store.location.prefix}/channels/stable/{ARCH}/notes-1.0.0-r0.apk"],
    }


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_version_that_no_machine_takes_is_told(
    store: Store, push: Push, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    names = ("notes", "notes-openrc")
    said = {}
    for number, version in enumerate(("1.9.0-r0", "1.10.0-r0", "1.2.0-r0")):
        signed_repository(tmp_path / version, version, arch=ARCH, commit=f"{number:040x}", names=names)
        last = flags if number == 2 else ()
        said[version] = push(tmp_path / version, "--channel", "stable", *last)[2].count("is older than")
        assert said[version] == (number == 2)
    code, _, err = push(tmp_path / "1.2.0-r0", "--channel", "stable", *flags)
    assert code == 0
    assert f"notice: notes 1.2.0-r0 is older than 1.10.0-r0, which channel stable has for {ARCH}" in err


def test_another_address_in_install_sh_is_told(store: Store, push: Push, tmp_path: Path) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)
    flags = (tmp_path / "built", "--channel", "stable")
    assert "from now on" not in push(*flags)[2]
    code, _, err = push(*flags, "--public-url=https://cdn.example.com")
    assert code == 0
    path = f"{store.location.prefix}/channels/stable"
    was, now = f"{store.server.endpoint}/{store.location.name}/{path}", f"https://cdn.example.com/{path}"
    assert f"notice: {path}/install.sh names {now} from now on, and no longer {was}: is that meant?" in err
    assert "from now on" not in push(*flags, "--public-url=https://cdn.example.com")[2]


def test_another_application_in_install_sh_is_told(store: Store, push: Push, tmp_path: Path) -> None:
    """It has the same key, by the same name: an organization's."""
    said = []
    for number, name in enumerate(("notes", "shop", "shop")):
        signed_repository(tmp_path / str(number), f"1.{number}.0-r0", arch=ARCH, names=(name,), commit=f"{number:040x}")
        code, _, err = push(tmp_path / str(number), "--channel", "stable")
        assert code == 0
        said.append("stable/install.sh installs shop from now on, and no longer notes: is that meant?" in err)
    assert said == [False, True, False]


@pytest.mark.parametrize("event", ["pull_request", "merge_group"])
def test_what_is_only_proposed_joins_no_channel(
    store: Store, push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)
    monkeypatch.setenv("GITHUB_EVENT_NAME", event)
    code, out, err = push(tmp_path / "built", "--channel", "stable")
    assert code == 0
    assert "nothing joins channel stable" in out + err
    assert {name.partition("/")[0] for name in store.objects()} == {"deployments", "keys"}


def test_another_project_s_channel_is_left_alone(store: Store, push: Push, tmp_path: Path) -> None:
    other = key_called("acme-shop.rsa.pub")
    theirs = signed_repository(tmp_path / "theirs", arch=ARCH, names=("shop",), key=other)
    adding.add(store.channel(key=other), adding.built([theirs]), "shop")
    signed_repository(tmp_path / "ours", arch=ARCH)
    before = store.objects()
    code, _, err = push(tmp_path / "ours", "--channel", "stable")
    assert code == 6
    assert "is signed by acme-shop.rsa.pub, not by acme-notes.rsa.pub" in err
    assert "a channel belongs to one project" in err
    assert store.objects() == before


def test_one_key_by_two_names_is_two_keys_to_a_machine(store: Store, push: Push, tmp_path: Path) -> None:
    """Two applications share a key, as an organization's secret is one, and have not said that it has one name."""
    theirs = replace(key_called(KEY), name="acme-shop.rsa.pub")
    signed_repository(tmp_path / "theirs", arch=ARCH, names=("shop",), key=theirs, commit="1" * 40)
    signed_repository(tmp_path / "ours", arch=ARCH)
    assert push(tmp_path / "theirs", "--channel", "stable")[0] == 0
    before = store.objects()
    code, _, err = push(tmp_path / "ours", "--channel", "stable")
    assert code == 6
    assert f"is signed by this very key as {theirs.name}, not as {KEY}: machines know a key by its name" in err
    assert f"write the line `Key-Name: {theirs.name}` in front of -----BEGIN" in err
    assert store.objects() == before
    assert push(tmp_path / "ours", "--channel", "other")[0] == 0


def test_an_index_is_signed_again_by_whoever_has_other_keys(store: Store, tmp_path: Path) -> None:
    """While keys are rotated, the new one signs also where nothing joins the channel: a prune will do."""
    new, old = key_called("acme-notes-5f3a9c01.rsa.pub"), key_called(KEY)
    adding.add(store.channel(), adding.built([signed_repository(tmp_path / "built", arch=ARCH)]), "notes")
    for keys in ([old], [new, old], [new]):
        channel = Channel(store.bucket, "stable", keys)
        live = [channel.edit(ARCH, lambda stanzas: stanzas) for _ in range(2)]
        assert live[0].etag == live[1].etag
        held = channel.bucket.read(channel.key(ARCH, "APKINDEX.tar.gz"), 1 << 20)
        assert held is not None
        index = parse_index(BytesIO(held.body), "the index")
        assert [each.key_name for each in index.signatures] == [each.name for each in keys]
        assert [each.name for each in index.stanzas] == ["notes"]
    with pytest.raises(BucketError, match=f"is signed by {new.name}, not by {old.name}$") as caught:
        store.channel().edit(ARCH, lambda stanzas: stanzas)
    assert "the key before this one? Then give it as --previous-signing-key" in caught.value.hint
    # Who only reads has no such flag, and pushes into no other channel.
    with pytest.raises(BucketError, match=f"is signed by {new.name}, not by {old.name}$") as caught:
        Channel(store.bucket, "stable", (), [old.public_key()]).index(ARCH)
    assert "--" not in caught.value.hint


def test_a_version_has_one_package(store: Store, push: Push, tmp_path: Path) -> None:
    signed_repository(tmp_path / "one", arch=ARCH, commit="1" * 40)
    signed_repository(tmp_path / "two", arch=ARCH, commit="2" * 40)
    assert push(tmp_path / "one", "--channel", "stable")[0] == 0
    before = store.objects()
    code, _, err = push(tmp_path / "two", "--channel", "stable")
    assert code == 6
    assert "notes-1.0.0-r0.apk" in err
    assert "tag the commit" in err
    assert "--package-version, --package-release" in err
    assert store.objects() == before


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [("Stable", 2, "cannot be a channel's name"), ("../x", 2, "cannot be"), ("x" * 64, 2, "cannot be")],
)
def test_a_channel_has_a_name(push: Push, tmp_path: Path, name: str, code: int, message: str) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)
    found, _, err = push(tmp_path / "built", "--channel", name)
    assert found == code
    assert message in err


def test_the_key_that_signs_is_that_of_the_packages(store: Store, push: Push, tmp_path: Path) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)
    code, _, err = push(tmp_path / "built", "--channel", "stable", key=None)
    assert code == 5
    assert "--channel needs the signing key" in err
    (tmp_path / "another.pem").write_bytes(pem(key_called("another.rsa.pub")))
    code, _, err = push(tmp_path / "built", "--channel", "stable", key=tmp_path / "another.pem")
    assert code == 5
    assert f"the signing key is not {KEY}, which notes was built with" in err
    assert store.objects() == {}


def test_a_server_without_conditions_has_no_channels(
    store: Store, push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)

    def after(request: Request, answer: Answer) -> Answer:
        is_meant = any(name.lower() == "if-match" for name in request.headers)
        return Answer(200, headers={"ETag": '"0"'}) if is_meant and answer.status == 412 else answer

    with proxy(store.server.endpoint, after=after) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        code, _, err = push(tmp_path / "built", "--channel", "stable")
    assert code == 6
    assert "does not heed the conditions of a write" in err
    assert store.objects() == {}


def test_of_two_that_are_newest_at_the_same_time_the_newer_one_stays(store: Store, tmp_path: Path) -> None:
    older = signed_repository(tmp_path / "older", "1.0.0-r0", arch=ARCH, commit="1" * 40)
    newer = signed_repository(tmp_path / "newer", "2.0.0-r0", arch=ARCH, commit="2" * 40)
    pushed: list[bool] = []

    def before(request: Request) -> None:
        is_copy = any(name.lower() == "x-amz-copy-source" for name in request.headers)
        if is_copy and "/latest/" in request.path and not pushed:
            pushed.append(True)
            adding.add(store.channel(), adding.built([newer]), "notes")

    with proxy(store.server.endpoint, before=before) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        adding.add(Channel(bucket, "stable", [key_called(KEY)]), adding.built([older]), "notes")
    assert pushed
    found = store.objects()
    assert found[f"channels/stable/latest/{ARCH}/notes.apk"] == newer.packages[0].path.read_bytes()
    assert store.versions() == ["notes-1.0.0-r0", "notes-2.0.0-r0"]

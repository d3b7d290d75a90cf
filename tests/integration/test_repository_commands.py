"""`pakman repository` looks after channels in a real bucket, while pushes go on and machines read."""

from __future__ import annotations

import calendar
import functools
import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pakman import cli
from pakman.apk.index import Stanza, parse_index, signed
from pakman.bucket import Bucket
from pakman.bucket.content import md5
from pakman.channels import Channel, adding, file_name, tombstones
from pakman.channels.contents import names, published_keys
from pakman.channels.pruning import Pruned, Rule, prune
from pakman.channels.rolling_back import roll_back
from pakman.channels.tombstones import Times
from pakman.channels.verifying import Problem, verify
from pakman.errors import BucketError
from tests.integration.conftest import AlpineRoot
from tests.packages import key as key_called
from tests.proxy import Answer, Request, proxy, s3_error
from tests.repositories import signed_repository
from tests.stores import ARCH, KEY, Store, pem

pytestmark = pytest.mark.s3

OTHER = "aarch64" if ARCH != "aarch64" else "x86_64"
NAMES = ("notes", "notes-openrc")
AT_ONCE = Times(cached=-5)
"""What is buried is deleted at once: machines keep no index."""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(store: Store) -> Store:
    """Room for one test, with the public key in it."""
    store.put(f"keys/{KEY}", key_called(KEY).public_pem)
    return store


@pytest.fixture
def channel(store: Store) -> Channel:
    """The channel stable."""
    return opened(store, "stable")


def opened(store: Store, name: str) -> Channel:
    """A channel of the one bucket that a test has: to open it takes longer than all that is done to it."""
    return Channel(_bucket(store), name, [key_called(KEY)])


@functools.lru_cache(maxsize=1)
def _bucket(store: Store) -> Bucket:
    return store.bucket


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`pakman repository ACTION` with the rest of the command line; returns the exit code, stdout and stderr."""
    for name, value in store.server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", pem(key_called(KEY)).decode())

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["repository", *words, "--bucket", str(store.location)])
        return code, *capsys.readouterr()

    return run


def additions(folder: Path, versions: Iterable[str], arch: str = ARCH, names: tuple[str, ...] = NAMES) -> adding.Wanted:
    """Return packages of a version each."""
    wanted: list[adding.Addition] = []
    for version in versions:
        built = signed_repository(folder / arch / version, version, arch=arch, names=names)
        wanted += adding.built([built])[arch]
    return {arch: wanted}


def filled(store: Store, folder: Path, versions: Iterable[str], *, channel: str = "stable", arch: str = ARCH) -> None:
    """Push versions into a channel, all at once."""
    adding.add(opened(store, channel), additions(folder / channel, versions, arch), "notes")


def both(store: Store, folder: Path, versions: Iterable[str], *, channel: str = "stable") -> None:
    """The same for two architectures."""
    for arch in (ARCH, OTHER):
        filled(store, folder, versions, channel=channel, arch=arch)


def packages(store: Store, channel: str = "stable", arch: str = ARCH) -> set[str]:
    """The packages that are there, each as NAME-VERSION."""
    folder = f"channels/{channel}/{arch}/"
    return {
        name.removeprefix(folder).removesuffix(".apk")
        for name in store.names()
        if name.startswith(folder) and name.endswith(".apk")
    }


def of(*pkgvers: str) -> set[str]:
    """All packages of these versions, each as NAME-VERSION."""
    return {f"{name}-{pkgver}-r0" for name in NAMES for pkgver in pkgvers}


def versions(store: Store, name: str = "stable", arch: str = ARCH) -> set[str]:
    """What the index has, each as NAME-VERSION."""
    return indexed(opened(store, name), arch)


def test_channels_are_listed_newest_first(store: Store, run: Run, tmp_path: Path) -> None:
    both(store, tmp_path, ["1.9.0-r0", "1.10.0-r0"])
    filled(store, tmp_path, ["2.0.0_rc1-r0"], channel="edge")
    code, out, _ = run("list")
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["channel", "arch", "package", "version", "size", "index", "changed"]
    assert lines[0].split()[:5] == ["*", "edge", ARCH, "notes", "2.0.0_rc1-r0"]
    assert [line[3:].split()[2:4] for line in lines if f"stable   {ARCH} " in line] == [
        ["notes", "1.10.0-r0"], ["notes", "1.9.0-r0"], ["notes-openrc", "1.10.0-r0"], ["notes-openrc", "1.9.0-r0"],
    ]  # fmt: skip
    assert [line.startswith("*") for line in lines if f"stable   {ARCH} " in line] == [True, False, True, False]
    code, out, _ = run("list", "edge", "--format", "json")
    assert code == 0
    first = json.loads(out)[0]
    size = len(store.objects()[f"channels/edge/{ARCH}/notes-2.0.0_rc1-r0.apk"])
    assert abs(calendar.timegm(time.strptime(first.pop("changed"), "%Y-%m-%dT%H:%M:%SZ")) - time.time()) < 300
    assert first == {
        "channel": "edge", "arch": ARCH, "package": "notes", "version": "2.0.0_rc1-r0", "size": size, "newest": True,
    }  # fmt: skip


def test_a_bucket_without_channels_is_told_so(store: Store, run: Run) -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "has no channels: `pakman push --channel NAME` makes one; or is it another --prefix?" in out
    code, _, err = run("verify")
    assert code == 6
    assert "has no channels: there is nothing to verify" in err
    code, _, err = run("list", "stable")
    assert (code, "has no channel stable" in err) == (6, True)


def test_what_is_known_of_other_channels_is_listed_all_the_same(store: Store, run: Run, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0"])
    stanzas = opened(store, "stable").index(ARCH)
    assert stanzas is not None
    other = replace(key_called("acme-shop.rsa.pub"), name="acme\x1b[2J-shop.rsa.pub")
    store.put(f"channels/edge/{ARCH}/APKINDEX.tar.gz", signed(stanzas.stanzas, [other], "theirs"))
    code, out, err = run("list")
    assert code == 6
    assert f"*  stable   {ARCH}" in out
    assert f"channels/edge/{ARCH}/APKINDEX.tar.gz" in err
    assert "is signed by acme\\x1b[2J-shop.rsa.pub, not by acme-notes.rsa.pub" in err


def test_all_that_is_wrong_with_a_channel_is_said_at_once(store: Store, run: Run, tmp_path: Path) -> None:
    pushed = ["1.0.0-r0", "1.1.0-r0", "1.2.0-r0", "1.3.0-r0"]
    both(store, tmp_path, pushed)
    code, out, _ = run("verify", "stable")
    assert code == 0
    assert re.fullmatch(r"stable: 16 packages, [0-9.]+ KiB read: all is well\n", out)

    before = store.objects()
    top = f"channels/stable/{ARCH}"
    store.remove(f"{top}/notes-1.0.0-r0.apk")
    store.put(f"{top}/notes-1.1.0-r0.apk", before[f"{top}/notes-1.1.0-r0.apk"] + b"more")
    body = bytearray(before[f"{top}/notes-1.2.0-r0.apk"])
    body[-20] ^= 1
    store.put(f"{top}/notes-1.2.0-r0.apk", bytes(body))
    store.put(f"{top}/notes-0.9.0-r0.apk", b"of a push that was killed")
    sums = before["channels/stable/SHA256SUMS"].decode().splitlines()
    kept = [line for line in sums if not line.endswith("notes-openrc-1.0.0-r0.apk")]
    kept[0] = f"{'0' * 64}  {kept[0][66:]}"
    store.put("channels/stable/SHA256SUMS", "".join(f"{line}\n" for line in kept).encode())
    store.put(f"channels/stable/latest/{ARCH}/notes.apk", before[f"{top}/notes-1.2.0-r0.apk"])
    store.remove(f"channels/stable/latest/{OTHER}/notes-openrc.apk")
    store.put(f"channels/stable/latest/{OTHER}/shop.apk", b"of another time")
    store.remove("channels/stable/install.sh")

    code, out, err = run("verify")
    assert code == 6
    assert "12 problems in stable" in err
    said = [line.strip() for line in out.splitlines()[1:]]
    for line in (
        f"{ARCH}/notes-1.0.0-r0.apk is named by the index, but is not in the bucket",
        f"SHA256SUMS has a line for {ARCH}/notes-1.0.0-r0.apk, which is not in the bucket",
        f"SHA256SUMS has no line for {ARCH}/notes-openrc-1.0.0-r0.apk",
        f"SHA256SUMS has no line for {OTHER}/notes-openrc-1.0.0-r0.apk",
        f"latest/{ARCH}/notes.apk is not a copy of the newest version, {ARCH}/notes-1.3.0-r0.apk",
        f"latest/{OTHER}/notes-openrc.apk is not there; it should be a copy of {OTHER}/notes-openrc-1.3.0-r0.apk",
        f"latest/{OTHER}/shop.apk is of a package that the index does not have",
        "install.sh is not there",
        f"SHA256SUMS has another SHA-256 for {kept[0][66:]} than the package has, which is {sums[0][:64]}",
        f"{ARCH}/notes-0.9.0-r0.apk is named by no index: `pakman repository prune` takes it",
    ):
        assert said.count(line) == 1, (line, out)
    assert any(line.startswith(f"{ARCH}/notes-1.1.0-r0.apk has ") for line in said)
    assert any(line.startswith(f"{ARCH}/notes-1.2.0-r0.apk ") for line in said)
    code, out, _ = run("verify", "--format", "json")
    assert code == 6
    (verdict,) = json.loads(out)
    assert len(verdict["problems"]) == 12
    assert verdict["unnamed"] == [f"{ARCH}/notes-0.9.0-r0.apk"]


def test_all_that_is_read_is_in_the_bar(store: Store, channel: Channel, tmp_path: Path) -> None:
    both(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    shown: list[tuple[str, int, int]] = []
    assert not verify(channel, on_progress=lambda *now: shown.append(now)).problems
    size = sum(len(body) for name, body in store.objects().items() if name.endswith(".apk"))
    assert shown[-1][1:] == (size, size)
    assert {title for title, _, _ in shown} == {
        f"stable: {name.removeprefix('channels/stable/')}" for name in store.names() if name.endswith(".apk")
    }


def test_of_very_many_problems_the_first_are_shown(store: Store, channel: Channel, run: Run, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0"])
    live = channel.index(ARCH)
    assert live is not None
    lost = [Stanza(live.stanzas[0].text.replace("V:1.0.0-r0", f"V:1.0.{number}-r0")) for number in range(1, 121)]
    store.put(f"channels/stable/{ARCH}/APKINDEX.tar.gz", signed([*live.stanzas, *lost], channel.keys, "stable"))
    code, out, err = run("verify")
    assert code == 6
    # Two of each: no package, and no line in SHA256SUMS.
    assert "240 problems in stable" in err
    head, *shown, last = out.splitlines()
    assert (head.partition(": ")[0], len(shown), last.strip()) == (
        "stable", 100, "… and 140 more: --format json has them all"
    )  # fmt: skip
    assert len(json.loads(run("verify", "--format=json")[1])[0]["problems"]) == 240


def test_another_key_s_index_and_packages_are_problems(store: Store, run: Run, tmp_path: Path) -> None:
    both(store, tmp_path, ["1.0.0-r0"])
    other = key_called("acme-shop.rsa.pub")
    live = opened(store, "stable").index(ARCH)
    assert live is not None
    store.put(f"channels/stable/{ARCH}/APKINDEX.tar.gz", signed(live.stanzas, [other], "theirs"))
    code, out, err = run("verify")
    assert code == 6
    assert "1 problem in stable" in err
    assert f"{ARCH}/APKINDEX.tar.gz is signed by acme-shop.rsa.pub, not by acme-notes.rsa.pub" in out
    # Trusting only that one, it is the other way round, and its packages are the first one's.
    (tmp_path / other.name).write_bytes(other.public_pem)
    code, out, err = run("verify", "--key", str(tmp_path / other.name))
    assert "3 problems in stable" in err
    assert f"{OTHER}/APKINDEX.tar.gz is signed by acme-notes.rsa.pub, not by acme-shop.rsa.pub" in out
    assert f"{ARCH}/notes-1.0.0-r0.apk is signed by acme-notes.rsa.pub, which is none of the keys" in out
    assert "shipped before a key was rotated is signed by the old one: give its --key too" in err
    code, _, err = run("verify", "--key", str(tmp_path / "none.pub"))
    assert (code, "none.pub cannot be read" in err) == (5, True)


def test_what_goes_while_it_is_verified_and_what_an_index_has_twice_are_problems(
    store: Store, channel: Channel, tmp_path: Path
) -> None:
    filled(store, tmp_path, ["1.0.0-r0"])
    live = channel.index(ARCH)
    assert live is not None
    stanza = next(each for each in live.stanzas if each.name == "notes")
    twin = Stanza(stanza.text.replace(stanza.checksum, f"Q1{'A' * 27}="))
    store.put(f"channels/stable/{ARCH}/APKINDEX.tar.gz", signed([*live.stanzas, twin], channel.keys, "stable"))
    store.remove("channels/stable/SHA256SUMS")

    def remove(request: Request) -> None:
        if request.method == "GET" and request.path.endswith("/notes-openrc-1.0.0-r0.apk"):
            store.remove(f"channels/stable/{ARCH}/notes-openrc-1.0.0-r0.apk")

    with proxy(store.server.endpoint, before=remove) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        found = verify(Channel(bucket, "stable", channel.keys)).problems
    twice, once = f"{ARCH}/notes-1.0.0-r0.apk", f"{ARCH}/notes-openrc-1.0.0-r0.apk"
    assert [(each.object, each.problem.partition(":")[0]) for each in found] == [
        ("SHA256SUMS", "is not there, or has no line of a SHA-256 and a package"),
        (twice, "is another build than its index names"),
        (twice, "is in the index 2 times"),
        (once, "has gone from the bucket, but the index names it"),
    ]


def test_the_newest_version_joins_another_channel(store: Store, run: Run, tmp_path: Path) -> None:
    both(store, tmp_path, ["1.9.0-r0", "1.10.0-r0"], channel="edge")
    both(store, tmp_path, ["1.8.0-r0"])
    code, out, _ = run("promote", "edge", "stable")
    assert code == 0
    assert out.splitlines()[0] == "stable has notes 1.10.0-r0 now, from edge"
    for arch in (ARCH, OTHER):
        assert versions(store, "stable", arch) == of("1.8.0", "1.10.0")
        assert versions(store, "edge", arch) == of("1.9.0", "1.10.0")
    before = store.objects()
    for name in NAMES:
        package = before[f"channels/edge/{ARCH}/{name}-1.10.0-r0.apk"]
        assert before[f"channels/stable/{ARCH}/{name}-1.10.0-r0.apk"] == package
        assert before[f"channels/stable/latest/{ARCH}/{name}.apk"] == package
    assert run("verify")[0] == 0

    code, out, _ = run("promote", "edge", "stable")
    assert (code, out) == (0, "stable has notes 1.10.0-r0 already: there is nothing to promote\n")
    assert store.objects() == before
    # One that was killed behind its index is finished.
    store.remove(f"channels/stable/latest/{OTHER}/notes.apk")
    store.remove("channels/stable/install.sh")
    assert run("promote", "edge", "stable")[0] == 0
    assert store.objects() == before

    code, out, _ = run("promote", "edge", "stable", "--package-version", "1.9.0", "--format", "json")
    assert code == 0
    assert json.loads(out) == {
        "versions": {"notes": ["1.9.0-r0"]},
        "promoted": sorted(f"{arch}/{name}.apk" for arch in (ARCH, OTHER) for name in of("1.9.0")),
        "already_there": [],
        "without": [],
        "signed_anew": [],
    }


def test_what_is_not_complete_is_promoted_only_by_its_name(store: Store, run: Run, tmp_path: Path) -> None:
    both(store, tmp_path, ["1.0.0-r0"], channel="edge")
    filled(store, tmp_path, ["1.1.0-r3"], channel="edge", arch=OTHER)
    code, _, err = run("promote", "edge", "stable")
    assert code == 6
    assert "the newest version of notes in channel edge is not the same everywhere: " in err
    assert f"1.0.0-r0 for {ARCH}" in err
    assert f"1.1.0-r3 for {OTHER}" in err
    code, out, err = run("promote", "edge", "stable", "--package-version", "1.1.0-r3")
    assert (code, out.splitlines()[0]) == (0, "stable has notes 1.1.0-r3 now, from edge")
    assert f"channel edge has no such version for {ARCH}" in err
    assert versions(store) == set()
    code, _, err = run("promote", "edge", "stable", "--package-version", "1.2.0")
    assert code == 6
    assert "channel edge has no version 1.2.0" in err
    assert "it has notes 1.1.0-r3, 1.0.0-r0" in err
    code, _, err = run("promote", "nightly", "stable")
    assert (code, "has no channel nightly" in err) == (6, True)


def test_what_is_not_what_its_index_says_is_not_promoted(store: Store, run: Run, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0"], channel="edge")
    name = f"channels/edge/{ARCH}/notes-openrc-1.0.0-r0.apk"
    body = bytearray(store.objects()[name])
    body[-20] ^= 1
    store.put(name, bytes(body))
    code, _, err = run("promote", "edge", "stable")
    assert code == 6
    assert f"{name} in " in err
    assert "nothing was promoted" in err
    assert not any(name.startswith("channels/stable/") for name in store.names())


def test_machines_follow_a_rollback_when_they_are_told(
    store: Store, run: Run, tmp_path: Path, alpine_root: AlpineRoot
) -> None:
    both(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    filled(store, tmp_path, ["1.2.0-r0"])
    repository = f"{store.server.endpoint}/{store.location.name}/{store.location.prefix}/channels/stable"
    (alpine_root.path / "etc/apk/keys" / KEY).write_bytes(key_called(KEY).public_pem)
    (alpine_root.path / "etc/apk/repositories").write_text(f"{repository}\n")
    alpine_root.sh("apk add notes notes-openrc; grep 1.2.0 /usr/share/notes/version")

    code, out, err = run("rollback", "stable")
    assert code == 0
    assert "stable goes back; if this is interrupted, run it again with --to 1.1.0-r0\n" in err
    *head, command = out.splitlines()
    assert head[0] == "stable is back at notes 1.1.0-r0; its index does not name any more:"
    assert [line.strip() for line in head[1:3]] == [f"{ARCH}/{name}-1.2.0-r0.apk" for name in NAMES]
    assert versions(store) == versions(store, arch=OTHER) == of("1.0.0", "1.1.0")
    # Machines that have the old index still find what it names.
    assert packages(store) == of("1.0.0", "1.1.0", "1.2.0")
    after = store.objects()
    assert after[f"channels/stable/latest/{ARCH}/notes.apk"] == after[f"channels/stable/{ARCH}/notes-1.1.0-r0.apk"]
    assert run("verify")[0] == 0

    world = alpine_root.sh("apk upgrade -U >&2; grep 1.2.0 /usr/share/notes/version >&2; cat /etc/apk/world")
    assert command.split()[:2] == ["apk", "upgrade"]
    alpine_root.sh(f"{command}; grep 1.1.0 /usr/share/notes/version")
    assert alpine_root.sh("cat /etc/apk/world") == world

    code, out, err = run("rollback", "stable", "--to", "1.1.0")
    assert (code, out.splitlines()) == (0, [
        "stable has nothing newer than notes 1.1.0-r0: there is nothing to take back"
    ])  # fmt: skip
    assert "goes back" not in err
    assert run("rollback", "stable")[0] == 0
    code, _, err = run("rollback", "stable")
    assert code == 6
    assert "channel stable has nothing older than notes 1.0.0-r0: there is nothing to go back to" in err
    code, _, err = run("rollback", "stable", "--to", "1.3.0")
    assert (code, "channel stable has no version 1.3.0" in err) == (6, True)


def test_a_rollback_whose_answer_is_lost_is_one(store: Store, channel: Channel, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    lost: list[str] = []

    def lose(request: Request, answer: Answer) -> Answer:
        if request.method == "PUT" and request.path.endswith("/APKINDEX.tar.gz") and not lost:
            lost.append(request.path)
            return s3_error(500, "InternalError")
        return answer

    with proxy(store.server.endpoint, after=lose) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        done = roll_back(Channel(bucket, "stable", channel.keys), None)
    assert lost
    assert done.removed == entries("1.1.0")
    assert sorted(tombs(store)) == list(entries("1.1.0"))
    assert not verify(channel).problems


def test_an_empty_channel_is_told_so(store: Store, run: Run) -> None:
    store.put(f"channels/stable/{ARCH}/APKINDEX.tar.gz", signed([], [key_called(KEY)], "stable"))
    assert run("list")[:2] == (0, f"stable in {store.location}: there are no packages yet\n")
    assert run("verify")[:2] == (0, "stable: 0 packages, 0 B read: all is well\n")
    for words, message in {
        "rollback stable": "channel stable has no packages to go back to",
        "rollback stable --to 1.0": "it has none at all: push into it first",
        "promote stable edge": "channel stable has no packages to promote",
    }.items():
        code, _, err = run(*words.split())
        assert (code, message in err) == (6, True), err


def test_of_several_applications_those_go_back_that_have_the_version(store: Store, run: Run, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    shop = [signed_repository(tmp_path / "shop" / each, each, arch=ARCH, names=("shop",)) for each in ("2-r0", "3-r0")]
    adding.add(opened(store, "stable"), {ARCH: [each for one in shop for each in adding.built([one])[ARCH]]}, "shop")
    code, _, err = run("rollback", "stable")
    assert (code, "channel stable has several applications: notes, shop" in err) == (6, True)
    code, out, _ = run("rollback", "stable", "--to", "1.0.0")
    assert code == 0
    assert out.splitlines()[-1] == "  apk upgrade -U --available notes"
    assert versions(store) == {*of("1.0.0"), "shop-2-r0", "shop-3-r0"}


def test_credentials_that_may_not_list_are_told_so(store: Store, channel: Channel, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0"])

    def forbid(request: Request) -> Answer | None:
        return s3_error(403, "AccessDenied") if "list-type=2" in request.path else None

    with proxy(store.server.endpoint, before=forbid) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        for ask in (names, published_keys, lambda _: verify(Channel(bucket, "stable", channel.keys))):
            with pytest.raises(
                BucketError, match=f"the credentials may not list what is in s3://{store.location.name}/"
            ):
                ask(bucket)


def test_a_server_that_does_not_say_what_time_it_is_is_told_so(store: Store) -> None:
    def forget(_: Request, answer: Answer) -> Answer:
        answer.headers.pop("Date", None)
        return answer

    with proxy(store.server.endpoint, after=forget) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        with pytest.raises(BucketError, match="does not say what time it is: its answer has no Date"):
            bucket.now()


def test_both_keys_sign_while_they_are_rotated(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    new = key_called("acme-notes-2.rsa.pub")
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", f"Key-Name: {new.name}\n{pem(new).decode()}")
    code, _, err = run("rollback", "stable")
    assert (code, "the signing key is none of those that" in err) == (5, True)
    monkeypatch.setenv("PAKMAN_PREVIOUS_SIGNING_KEY", pem(key_called(KEY)).decode())
    store.put(f"keys/{new.name}", key_called("acme-shop.rsa.pub").public_pem)
    code, _, err = run("rollback", "stable")
    assert (code, f"keys/{new.name} in s3://{store.location.name}/{store.location.prefix} is another key" in err) == (
        5,
        True,
    )
    store.remove(f"keys/{new.name}")
    assert run("rollback", "stable")[0] == 0
    assert store.objects()[f"keys/{new.name}"] == new.public_pem
    index = parse_index(BytesIO(store.objects()[f"channels/stable/{ARCH}/APKINDEX.tar.gz"]), "index")
    assert [each.key_name for each in index.signatures] == [new.name, KEY]
    assert run("verify")[0] == 0


@pytest.mark.parametrize("other", ["a-shop.rsa.pub", "z-shop.rsa.pub"])
def test_a_key_with_several_names_signs_by_the_one_that_the_channel_s_machines_know(
    store: Store, run: Run, tmp_path: Path, other: str
) -> None:
    """Applications that share a bucket and a key: which of them a channel is of, its index says."""
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0", "1.2.0-r0"])
    store.put(f"keys/{other}", key_called(KEY).public_pem)
    for words in ("rollback stable", "promote stable beta", "prune stable --keep 1"):
        code, _, err = run(*words.split())
        assert code == 0, err
    for name in ("stable", "beta"):
        index = parse_index(BytesIO(store.objects()[f"channels/{name}/{ARCH}/APKINDEX.tar.gz"]), "index")
        assert [each.key_name for each in index.signatures] == [KEY]
    assert versions(store) == versions(store, "beta") == of("1.1.0")


def test_what_is_signed_anew_is_said_though_nothing_joins_and_nothing_goes(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("edge", "stable", "beta"):
        filled(store, tmp_path, ["1.0.0-r0"], channel=name)
    # Where there is no package of it to promote, the new key has to sign as well: install.sh brings it.
    filled(store, tmp_path, ["0.9.0-r0"], arch=OTHER)
    new = key_called("acme-notes-2.rsa.pub")
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", f"Key-Name: {new.name}\n{pem(new).decode()}")
    monkeypatch.setenv("PAKMAN_PREVIOUS_SIGNING_KEY", pem(key_called(KEY)).decode())
    said = f"  signed anew, by {new.name} and {KEY}: the index for "
    already = "stable has notes 1.0.0-r0 already: there is nothing to promote\n"
    promoted = already + "".join(f"{said}{arch}\n" for arch in sorted([ARCH, OTHER]))
    assert run("promote", "edge", "stable")[:2] == (0, promoted)
    for arch in (ARCH, OTHER):
        index = parse_index(BytesIO(store.objects()[f"channels/stable/{arch}/APKINDEX.tar.gz"]), "index")
        assert [each.key_name for each in index.signatures] == [new.name, KEY]
    assert new.name.encode() in store.objects()["channels/stable/install.sh"]
    assert run("promote", "edge", "stable")[:2] == (0, already)
    nothing = "beta: 0 packages taken from the index, 0 deleted, 0 waiting\n"
    assert run("prune", "beta", "--keep", "9")[:2] == (0, f"{nothing}{said}{ARCH}\n")
    code, out, err = run("prune", "beta", "--keep", "9")
    assert (code, out, "no longer" in err) == (0, nothing, False)
    assert run("verify")[0] == 0
    # Whoever forgets the previous key in one place takes the channel from machines that have no other.
    monkeypatch.delenv("PAKMAN_PREVIOUS_SIGNING_KEY")
    for words in ("promote stable beta --package-version 1.0.0", "prune stable --keep 9"):
        name = "beta" if "beta" in words else "stable"
        told = f"notice: channel {name} is no longer signed by {KEY}: is that meant? A machine that has no {new.name}"
        for is_first in (True, False):
            code, _, err = run(*words.split())
            assert (code, told in err, "no longer" in err) == (0, is_first, is_first)


def test_an_architecture_is_not_left_without_a_version(store: Store, run: Run, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    filled(store, tmp_path, ["1.1.0-r0"], arch=OTHER)
    before = store.objects()
    code, _, err = run("rollback", "stable")
    assert code == 6
    assert f"channel stable has nothing older than notes 1.1.0-r0 for {OTHER}" in err
    assert store.objects() == before


def indexed(channel: Channel, arch: str = ARCH) -> set[str]:
    """What the index has, each as NAME-VERSION."""
    live = channel.index(arch)
    return set() if live is None else {f"{each.name}-{each.version}" for each in live.stanzas}


def pruned(channel: Channel, keep: int = 1, times: Times = AT_ONCE) -> Pruned:
    """What `pakman repository prune` does."""
    return prune(channel, Rule(keep=keep), clock=time.monotonic, times=times)


def entries(*versions: str, arch: str = ARCH) -> tuple[str, ...]:
    """The packages of these versions as a prune names them."""
    return tuple(sorted(f"{arch}/{each}.apk" for each in of(*versions)))


def tombs(store: Store) -> list[str]:
    """What has a tombstone."""
    return [name.partition("/pruned/")[2] for name in store.names() if "/pruned/" in name]


def test_old_versions_leave_the_index_first_and_the_bucket_later(
    store: Store, channel: Channel, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(store, tmp_path, ["1.8.0-r0", "1.9.0-r0", "1.10.0-r0"])
    store.put(f"channels/stable/{ARCH}/notes-0.1.0-r0.apk", b"of a push that was killed")
    before = store.objects()
    with monkeypatch.context() as without:
        without.delenv("PAKMAN_SIGNING_KEY")
        code, out, _ = run("prune", "stable", "--keep", "1", "--dry-run")
    assert code == 0
    assert out.splitlines()[0] == "stable: 8 packages would be taken from the index, 0 would be deleted, 9 waiting"
    assert store.objects() == before
    code, out, _ = run("prune", "stable", "--older-than", "12h", "--format", "json")
    assert code == 0
    assert json.loads(out)["removed"] == []

    code, out, _ = run("prune", "stable", "--keep", "2")
    assert code == 0
    old = {*entries("1.8.0"), *entries("1.8.0", arch=OTHER)}
    gone = {*old, f"{ARCH}/notes-0.1.0-r0.apk"}
    assert out.splitlines()[:2] == [
        "stable: 4 packages taken from the index, 0 deleted, 5 waiting",
        f"  taken from the index: {min(old)}",
    ]
    until = re.search(rf"waiting until (.*) UTC: {ARCH}/notes-0.1.0-r0.apk", out)
    assert until is not None
    left = calendar.timegm(time.strptime(until[1], "%Y-%m-%d %H:%M")) - time.time()
    assert 4 * 3600 < left <= 4 * 3600 + 900
    for arch in (ARCH, OTHER):
        assert indexed(channel, arch) == of("1.9.0", "1.10.0")
        assert packages(store, arch=arch) >= of("1.8.0", "1.9.0", "1.10.0")
    assert "11 packages" not in run("verify")[1]
    assert pruned(channel, keep=2, times=Times()).deleted == ()

    done = pruned(channel, keep=2)
    assert (done.removed, set(done.deleted), done.waiting) == ((), gone, ())
    assert packages(store) == packages(store, arch=OTHER) == of("1.9.0", "1.10.0")
    assert tombs(store) == []
    assert "1.8.0" not in store.objects()["channels/stable/SHA256SUMS"].decode()
    assert run("verify")[0] == 0


def test_what_is_pushed_again_stays(store: Store, channel: Channel, tmp_path: Path) -> None:
    wanted = additions(tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    adding.add(channel, wanted, "notes")
    roll_back(channel, None)
    assert sorted(tombs(store)) == list(entries("1.1.0"))
    # A push that begins begins its time again, and whoever has looked at it before that cannot claim it any more.
    looked_at = {name: channel.bucket.read(channel.key("pruned", *name.split("/")), 100) for name in entries("1.1.0")}
    assert tombstones.revive(channel, entries("1.1.0")) == entries("1.1.0")
    assert pruned(channel, keep=2, times=Times(cached=60)).deleted == ()
    adding.add(channel, wanted, "notes")
    assert packages(store) == indexed(channel) == of("1.0.0", "1.1.0")
    assert tombs(store) == []
    # One that was killed before its index loses its packages, and another one brings them back.
    roll_back(channel, None)
    for name, held in looked_at.items():
        assert held is not None
        key = channel.key("pruned", *name.split("/"))
        assert channel.bucket.swap(key, b"deleting", over=held.etag, content_type="", cache_control="") is None
    tombstones.revive(channel, entries("1.1.0"))
    assert pruned(channel, keep=2).deleted == entries("1.1.0")
    adding.add(channel, wanted, "notes")
    assert packages(store) == indexed(channel) == of("1.0.0", "1.1.0")
    # One that may not delete leaves tombstones behind, and they tell nothing.
    roll_back(channel, None)
    for name in entries("1.1.0"):
        tombstones.revive(channel, [name])
        tombstones.bury(channel, name)
        held = channel.bucket.read(channel.key("pruned", *name.split("/")), 100)
        assert held is not None
        assert held.body.startswith(b"pruned ")

    def forbid(request: Request) -> Answer | None:
        return s3_error(403, "AccessDenied") if request.method == "DELETE" else None

    with proxy(store.server.endpoint, before=forbid) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        adding.add(Channel(bucket, "stable", channel.keys), wanted, "notes")
    assert sorted(tombs(store)) == list(entries("1.1.0"))
    assert pruned(channel, keep=2).deleted == ()
    assert tombs(store) == []
    assert not verify(channel).problems


def test_a_push_waits_for_what_is_being_deleted(store: Store, channel: Channel, tmp_path: Path) -> None:
    wanted = additions(tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    adding.add(channel, wanted, "notes")
    roll_back(channel, None)
    now = channel.bucket.now()
    for name in entries("1.1.0"):
        assert not tombstones.claim(channel, name, now, Times())
        assert tombstones.claim(channel, name, now, AT_ONCE)
        assert not tombstones.claim(channel, name, now, AT_ONCE)
    told: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        push = threads.submit(adding.add, channel, wanted, "notes", on_notice=told.append)
        while not told and not push.done():
            time.sleep(0.05)
        assert indexed(channel) == of("1.0.0")
        channel.bucket.delete(channel.key(*name.split("/")) for name in entries("1.1.0"))
        for name in entries("1.1.0"):
            tombstones.remove(channel, name)
        push.result()
    first = entries("1.1.0")[0]
    assert told == [f"{first} of channel stable is being deleted at this moment, and is added after that"]
    assert packages(store) == indexed(channel) == of("1.0.0", "1.1.0")
    # Whoever has claimed it and died keeps nobody waiting for ever.
    tombstones.bury(channel, first)
    assert tombstones.claim(channel, first, channel.bucket.now(), AT_ONCE)
    assert tombstones.revive(channel, [first], times=Times(deleting=-5)) == (first,)


def test_what_an_index_names_at_the_last_moment_is_kept(store: Store, channel: Channel, tmp_path: Path) -> None:
    adding.add(channel, additions(tmp_path, ["1.0.0-r0", "1.1.0-r0"]), "notes")
    before = channel.index(ARCH)
    assert before is not None
    roll_back(channel, None)

    def name_it(request: Request) -> None:
        # A push that saw no tombstone, between a claim and what follows from it.
        if request.method == "PUT" and "/pruned/" in request.path:
            channel.edit(ARCH, lambda _: before.stanzas)

    with proxy(store.server.endpoint, before=name_it) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        assert pruned(Channel(bucket, "stable", channel.keys), keep=2).deleted == ()
    assert packages(store) == indexed(channel) == of("1.0.0", "1.1.0")
    assert tombs(store) == []


def test_a_prune_that_is_killed_anywhere_is_finished_by_the_next(
    store: Store, channel: Channel, tmp_path: Path
) -> None:
    wanted = additions(tmp_path, ["1.0.0-r0", "1.1.0-r0", "1.2.0-r0"], names=("notes",))
    left: list[list[str]] = []
    for last in range(20):
        adding.add(channel, wanted, "notes")
        roll_back(channel, None)
        if not _killed(store, last):
            break
        assert verify(channel).problems == ()
        left.append(sorted(tombs(store)))
        done = pruned(channel, times=Times(cached=-5, deleting=-5))
        done = pruned(channel, times=Times(cached=-5, deleting=-5))
        assert (packages(store), tombs(store), done.waiting) == ({"notes-1.1.0-r0"}, [], ())
    # Index; tombstone; claim, SHA256SUMS, object, tombstone.
    assert len(left) == 6
    old, back = f"{ARCH}/notes-1.0.0-r0.apk", f"{ARCH}/notes-1.2.0-r0.apk"
    assert left == [[back], [back], *[[old, back]] * 4]


def _killed(store: Store, last: int, do: Callable[[Channel], object] = pruned) -> bool:
    """Prune, or do another thing, and die with the write behind the `last` one; False where there were no more."""
    count = 0

    def kill(request: Request) -> Answer | None:
        nonlocal count
        count += request.method in ("PUT", "DELETE") and "/conditional-writes" not in request.path
        return s3_error(403, "AccessDenied") if count > last else None

    with proxy(store.server.endpoint, before=kill) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env, concurrency=1)
        try:
            do(Channel(bucket, "stable", [key_called(KEY)]))
        except BucketError:
            return True
    return False


def test_a_rollback_that_is_killed_anywhere_is_finished_by_the_next(
    store: Store, channel: Channel, run: Run, tmp_path: Path
) -> None:
    wanted = {arch: additions(tmp_path, ["1.0.0-r0", "1.1.0-r0", "1.2.0-r0"], arch)[arch] for arch in (ARCH, OTHER)}
    said: list[tuple[int, str]] = []
    for last in range(40):
        adding.add(channel, wanted, "notes")
        # The push was killed before them.
        for name in [each for each in store.names() if "/latest/" in each]:
            store.remove(name)
        was_killed = _killed(store, last, partial(roll_back, to=None))
        if was_killed:
            code, out, _ = run("rollback", "stable", *(["--to", "1.1.0"] if last % 2 else []))
            said.append((code, out.partition("\n")[0]))
        for arch in (ARCH, OTHER):
            assert indexed(channel, arch) == of("1.0.0", "1.1.0")
        assert verify(channel).problems == ()
        if not was_killed:
            break
    # Two copies of each architecture; then each index and two tombstones; then two copies of each.
    back = "stable is back at notes 1.1.0-r0"
    assert said == [
        *[(0, f"{back}; its index does not name any more:")] * 8,
        *[(0, f"{back}: a rollback was interrupted, and the rest of it is done now")] * 6,
    ]


def test_where_an_index_may_not_be_read_nothing_is_pruned(store: Store, channel: Channel, tmp_path: Path) -> None:
    """It is another account's, for instance; what it names looks as if nothing named it."""
    both(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    before = store.names()

    def forbid(request: Request) -> Answer | None:
        is_index = request.method == "GET" and request.path.endswith(f"{OTHER}/APKINDEX.tar.gz")
        return s3_error(403, "AccessDenied") if is_index else None

    with proxy(store.server.endpoint, before=forbid) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        for do in (pruned, partial(roll_back, to=None), partial(adding.refuse, wanted={})):
            with pytest.raises(BucketError, match=f"{OTHER}/APKINDEX.tar.gz in .* may not read it"):
                do(Channel(bucket, "stable", channel.keys))
        problems = verify(Channel(bucket, "stable", channel.keys)).problems
    assert problems == (Problem(f"{OTHER}/APKINDEX.tar.gz", "is there, but the credentials may not read it"),)
    assert store.names() == before


def test_copies_that_go_are_the_first_and_what_is_not_ours_stays(
    store: Store, channel: Channel, tmp_path: Path
) -> None:
    """What is left of a rollback that is killed has to be a copy that is newer than the index."""
    for version, parts in {"1.0.0-r0": NAMES, "1.1.0-r0": (*NAMES, "notes-a", "notes-b", "notes-c")}.items():
        adding.add(channel, additions(tmp_path, [version], names=parts), "notes")
    others = [f"channels/stable/latest/{ARCH}/{each}" for each in ("old/notes.apk", "my notes.apk", "README")]
    for each in others:
        store.put(each, b"somebody else's")
    written: list[str] = []

    def note(request: Request) -> None:
        if request.method in ("PUT", "DELETE") and "/latest/" in request.path:
            written.append(request.method)

    with proxy(store.server.endpoint, before=note) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        roll_back(Channel(bucket, "stable", channel.keys), None)
    assert written == ["DELETE"] * 3 + ["PUT"] * 2
    assert set(others) < set(store.names())
    assert verify(channel).problems == ()


def test_behind_its_last_copy_a_rollback_has_nothing_left_to_do(store: Store, channel: Channel, tmp_path: Path) -> None:
    """Who runs it again because it was killed there would go back further."""
    both(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    first = "x86_64"
    filled(store, tmp_path, ["1.2.0-r0"], arch=first)
    asked: list[tuple[str, str]] = []

    def note(request: Request) -> None:
        asked.append((request.method, request.path.partition("/stable/")[2]))

    with proxy(store.server.endpoint, before=note) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        roll_back(Channel(bucket, "stable", channel.keys), None)
    last = max(number for number, (method, _) in enumerate(asked) if method == "PUT")
    assert asked[last][1].startswith(f"latest/{first}/")
    assert asked[last + 1 :] == [("HEAD", f"{first}/APKINDEX.tar.gz")]


def test_credentials_that_may_not_delete_take_a_version_out_of_every_index(
    store: Store, channel: Channel, tmp_path: Path
) -> None:
    both(store, tmp_path, ["1.0.0-r0"])
    for arch in (ARCH, OTHER):
        adding.add(channel, additions(tmp_path, ["1.1.0-r0"], arch, names=(*NAMES, "notes-doc")), "notes")

    def forbid(request: Request) -> Answer | None:
        return s3_error(403, "AccessDenied") if request.method == "DELETE" else None

    with proxy(store.server.endpoint, before=forbid) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        with pytest.raises(BucketError, match="the credentials do not allow this"):
            roll_back(Channel(bucket, "stable", channel.keys), None)
    assert indexed(channel, ARCH) == indexed(channel, OTHER) == of("1.0.0")
    assert roll_back(channel, None).finished
    assert verify(channel).problems == ()


def test_a_version_that_is_damaged_is_taken_back(store: Store, channel: Channel, run: Run, tmp_path: Path) -> None:
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    for name in (f"{ARCH}/notes-1.1.0-r0.apk", f"latest/{ARCH}/notes.apk"):
        store.remove(f"channels/stable/{name}")
    assert run("rollback", "stable")[0] == 0
    assert indexed(channel) == of("1.0.0")
    pruned(channel)
    assert verify(channel).problems == ()


def test_a_push_that_comes_by_is_not_taken_for_an_interrupted_rollback(
    store: Store, channel: Channel, tmp_path: Path
) -> None:
    filled(store, tmp_path, ["1.0.0-r0", "1.1.0-r0"])
    wanted = [additions(tmp_path, ["1.2.0-r0"])]

    def push(request: Request) -> None:
        if "list-type=2" in request.path and "latest" in request.path and wanted:
            adding.add(channel, wanted.pop(), "notes")

    targets: list[object] = []
    with proxy(store.server.endpoint, before=push) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        done = roll_back(Channel(bucket, "stable", channel.keys), None, on_target=targets.append)
    assert (done.removed, done.finished) == (entries("1.2.0"), False)
    assert targets == [{"notes": "1.1.0-r0"}]


CACHED = 2.0
"""Seconds for which the machines of the next test go by an index that they have; apk does for four hours."""


class Machine:
    """Reads an index, goes by it as long as it is cached, and asks for every package that it names, on and on."""

    def __init__(self, store: Store, wanted: adding.Wanted) -> None:
        self._server = urlsplit(store.server.endpoint).netloc
        self._folder = f"/{store.location.name}/{store.location.prefix}/channels/stable/{ARCH}"
        self._md5s = {file_name(each.stanza): md5(each.path.read_bytes()).hex() for each in wanted[ARCH]}
        self._stopped = threading.Event()
        self.seen: list[int] = []
        """How many packages each index had."""
        self.asked = 0
        self.missed: list[str] = []
        """What an index named that was not there, or was something else."""

    def run(self) -> None:
        """Read until it is stopped."""
        with closing(http.client.HTTPConnection(self._server, timeout=60)) as connection:
            while not self._stopped.is_set():
                self._go_by(connection)

    def stop(self) -> None:
        """Let it come to its end."""
        self._stopped.set()

    def _go_by(self, connection: http.client.HTTPConnection) -> None:
        began = time.monotonic()
        connection.request("GET", f"{self._folder}/APKINDEX.tar.gz")
        named = [file_name(each) for each in parse_index(BytesIO(connection.getresponse().read()), "index").stanzas]
        self.seen.append(len(named))
        while not self._stopped.is_set():
            for name in named:
                connection.request("HEAD", f"{self._folder}/{name}")
                answer = connection.getresponse()
                answer.read()
                if time.monotonic() - began > CACHED:
                    return
                self.asked += 1
                time.sleep(0.003)
                if answer.status != 200 or answer.headers["ETag"].strip('"') != self._md5s[name]:
                    self.missed.append(f"{answer.status} {name}")


def test_machines_find_what_an_index_names_while_a_channel_is_pruned_and_rolled_back(
    store: Store, channel: Channel, tmp_path: Path
) -> None:
    versions = [f"1.{number}.0-r0" for number in range(51)]
    wanted = additions(tmp_path, versions, names=("notes",))
    times = Times(cached=CACHED)
    adding.add(channel, {ARCH: wanted[ARCH][:50]}, "notes")
    machines = [Machine(store, wanted) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(machine.run) for machine in machines]
        try:
            assert len(pruned(channel, keep=40, times=times).removed) == 10
            assert roll_back(channel, None).versions == {"notes": "1.48.0-r0"}
            deleted = pruned(channel, keep=40, times=times).deleted
            time.sleep(CACHED + 1)
            deleted += pruned(channel, keep=40, times=times).deleted
            # What was taken back comes again, and a newer one.
            adding.add(channel, {ARCH: wanted[ARCH][49:]}, "notes")
            roll_back(channel, "1.49.0")
            adding.add(channel, {ARCH: wanted[ARCH][49:]}, "notes")
            assert len(pruned(channel, keep=30, times=times).removed) == 11
            deleted += pruned(channel, keep=30, times=times).deleted
            time.sleep(CACHED + 1)
            deleted += pruned(channel, keep=30, times=times).deleted
        finally:
            for machine in machines:
                machine.stop()
    for each in running:
        each.result()
    assert [machine.missed for machine in machines] == [[], []]
    assert all(machine.asked > 100 for machine in machines)
    assert {50, 39} <= {number for machine in machines for number in machine.seen}
    assert len(deleted) == 22
    assert indexed(channel) == packages(store) == {f"notes-{version}" for version in versions[21:]}
    assert not verify(channel).problems

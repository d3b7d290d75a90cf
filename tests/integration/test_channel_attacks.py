"""What a channel refuses, and when: before anything is stored, whatever the push brings along."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from pakman import cli
from pakman.apk.index import Stanza, read_index, write_index, write_stanzas
from pakman.bucket import Bucket
from pakman.channels import Channel, adding
from pakman.errors import BucketError
from tests.integration.test_channels import Push, push
from tests.packages import key as key_called
from tests.packages import named, pack
from tests.proxy import Answer, Request, proxy, s3_error, with_etag
from tests.repositories import signed_repository
from tests.stores import ARCH, KEY, Store, pem

pytestmark = pytest.mark.s3

OTHER = "aarch64" if ARCH == "x86_64" else "x86_64"
__all__ = ["push"]


def test_another_project_s_channel_is_left_alone_on_every_architecture(
    store: Store, push: Push, tmp_path: Path
) -> None:
    other = key_called("acme-shop.rsa.pub")
    theirs = signed_repository(tmp_path / "theirs", arch=OTHER, names=("shop",), key=other)
    adding.add(store.channel(key=other), adding.built([theirs]), "shop")
    signed_repository(tmp_path / "ours", arch=ARCH)
    before = store.objects()
    code, _, err = push(tmp_path / "ours", "--channel", "stable")
    assert store.objects()["channels/stable/install.sh"] == before["channels/stable/install.sh"]
    assert code == 6, err


NO_PACKAGES = [
    ("P", "../../evil"), ("P", "-rf"), ("V", "1.0/../x"), ("A", "../x"), ("C", "Q1x"), ("S", "-1"), ("S", "9" * 16),
    ("o", "notes; reboot"), ("o", "\x1b[2J"),
]  # fmt: skip


def test_an_index_of_what_no_package_can_be_is_gone_by_by_nobody(
    store: Store, push: Push, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key has been in wrong hands: the index is signed with it."""
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", pem(key_called(KEY)).decode())
    built = signed_repository(tmp_path / "built", arch=ARCH)
    assert push(tmp_path / "built", "--channel=stable")[0] == 0
    (stanza,) = read_index(built.index).stanzas
    others = ["verify stable", "promote stable edge", "rollback stable", "prune stable --keep=1"]
    for letter, value in NO_PACKAGES:
        text = stanza.text.replace(f"\n{letter}:{stanza.field(letter)}\n", f"\n{letter}:{value}\n")
        changed = Stanza(text if letter != "C" else text.replace(stanza.checksum, value))
        assert changed.field(letter) == value
        write_stanzas(tmp_path / "index", [changed], [key_called(KEY)], "hostile")
        store.put(f"channels/stable/{ARCH}/APKINDEX.tar.gz", (tmp_path / "index").read_bytes())
        before = store.objects()
        for words in ["list", *others]:
            code = cli.main(["repository", *words.split(), f"--bucket={store.location}"])
            said = "".join(capsys.readouterr())
            assert (code, "has an entry that no package of" in said) == (6, True), said
            assert "\x1b" not in said
        code, _, err = push(tmp_path / "built", "--channel=stable")
        assert (code, "has an entry that no package of" in err) == (6, True)
        assert store.objects() == before
        others = []


@pytest.mark.parametrize(
    "address", ['https://cdn.example.com/"a"', "https://cdn.example.com/{a}", "https://cdn.example.com/`id`"]
)
def test_an_address_that_no_machine_can_write_is_refused_before_anything_is_stored(
    store: Store, push: Push, tmp_path: Path, address: str
) -> None:
    signed_repository(tmp_path / "built", arch=ARCH)
    code, _, _ = push(tmp_path / "built", "--channel", "stable", "--public-url", address)
    assert code == 2
    assert store.objects() == {}


def test_what_the_channel_would_not_read_again_is_refused_before_it_is_written(
    store: Store, push: Push, tmp_path: Path
) -> None:
    built = signed_repository(tmp_path / "built", arch=ARCH)
    path = tmp_path / "built" / ARCH / "notes-1.0.0-r0.apk"
    metadata = dataclasses.replace(named("notes", "1.0.0-r0"), arch="noarch")
    package = pack(path, tmp_path / "built/trees/notes", metadata=metadata, signed_by=key_called(KEY))
    built = dataclasses.replace(built, packages=(dataclasses.replace(package, arch="noarch"),))
    built.manifest_file.write_text(built.to_json())
    write_index(built.index, [path], [key_called(KEY)], "tests")
    code, _, err = push(tmp_path / "built", "--channel", "stable")
    assert code in (2, 6)
    assert store.objects() == {}, err


def test_an_index_that_does_not_name_a_package_is_no_bug_of_ours(store: Store, push: Push, tmp_path: Path) -> None:
    built = signed_repository(tmp_path / "built", arch=ARCH, names=("notes", "notes-openrc"))
    write_index(built.index, [built.packages[0].path], [key_called(KEY)], "tests")
    code, _, err = push(tmp_path / "built", "--channel", "stable")
    assert (code, "notes-openrc" in err) == (2, True), err


def test_what_comes_under_a_known_etag_is_verified_all_the_same(store: Store, tmp_path: Path) -> None:
    adding.add(store.channel(), adding.built([signed_repository(tmp_path / "built", arch=ARCH)]), "notes")
    write_index(tmp_path / "theirs", [], [key_called("acme-shop.rsa.pub")], "theirs")
    answers = 0

    def exchange(request: Request, answer: Answer) -> Answer:
        nonlocal answers
        if request.method == "GET" and request.path.endswith("APKINDEX.tar.gz"):
            answers += 1
            answer.body = answer.body if answers == 1 else (tmp_path / "theirs").read_bytes()
        return answer

    with proxy(store.server.endpoint, after=exchange) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        channel = Channel(bucket, "stable", [key_called(KEY)])
        assert channel.index(ARCH) is not None
        with pytest.raises(BucketError, match="is signed by acme-shop"):
            channel.index(ARCH)
        with pytest.raises(BucketError, match="is signed by acme-shop"):
            channel.edit(ARCH, lambda stanzas: stanzas)


def test_a_server_that_leaves_the_etag_empty_is_told_so_at_once(store: Store, tmp_path: Path) -> None:
    adding.add(store.channel(), adding.built([signed_repository(tmp_path / "built", arch=ARCH)]), "notes")
    asked = 0

    def blank(request: Request, answer: Answer) -> Answer:
        nonlocal asked
        asked += 1
        return with_etag(answer, '""')

    with proxy(store.server.endpoint, after=blank) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        channel = Channel(bucket, "stable", [key_called(KEY)])
        with pytest.raises(BucketError, match="what answers there is not an S3 server"):
            channel.edit(ARCH, lambda _: ())
    assert asked == 1


def test_an_upload_that_a_killed_push_left_behind_ends_though_another_had_stored_the_object(
    store: Store, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/bytes").write_bytes(os.urandom(20 << 20))
    built = signed_repository(tmp_path / "built", arch=ARCH)
    path = tmp_path / "built" / ARCH / "notes-1.0.0-r0.apk"
    metadata = dataclasses.replace(named("notes", "1.0.0-r0"), arch=ARCH)
    package = pack(path, tree, metadata=metadata, signed_by=key_called(KEY))
    built = dataclasses.replace(built, packages=(package,))
    write_index(built.index, [path], [key_called(KEY)], "tests")
    adding.add(store.channel(), adding.built([built]), "notes")
    key = f"{store.location.prefix}/channels/stable/{ARCH}/notes-1.0.0-r0.apk"
    store.client.create_multipart_upload(Bucket=store.location.name, Key=key)
    adding.add(store.channel(), adding.built([built]), "notes")
    found = store.client.list_multipart_uploads(Bucket=store.location.name, Prefix=f"{store.location.prefix}/")
    assert [each["Key"] for each in found.get("Uploads", ())] == []


def test_a_server_that_calls_an_index_by_two_names_is_not_asked_for_ever(store: Store, tmp_path: Path) -> None:
    built = signed_repository(tmp_path / "built", arch=ARCH)
    asked = 0

    def after(request: Request, answer: Answer) -> Answer:
        nonlocal asked
        if request.method == "HEAD" and request.path.endswith("/APKINDEX.tar.gz"):
            asked += 1
            if asked > 300:
                return Answer(500)
            return with_etag(answer, '"wrong"')
        return answer

    with proxy(store.server.endpoint, after=after) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        with pytest.raises(BucketError, match="may not be the newest"):
            adding.add(Channel(bucket, "stable", [key_called(KEY)]), adding.built([built]), "notes")


def test_a_package_that_somebody_has_removed_is_named(
    store: Store, push: Push, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", pem(key_called(KEY)).decode())
    for number, version in enumerate(("1.0.0-r0", "1.1.0-r0")):
        signed_repository(tmp_path / version, version, arch=ARCH, commit=f"{number:040x}")
        assert push(tmp_path / version, "--channel=stable")[0] == 0
    gone = f"channels/stable/{ARCH}/notes-1.0.0-r0.apk"
    store.remove(gone)
    code = cli.main(["repository", "rollback", "stable", f"--bucket={store.location}"])
    assert code == 6
    assert f"{store.location.prefix}/{gone} in {store.location}" in (said := capsys.readouterr().err)
    assert "is not there, and" in said
    # Pushed again, all is well.
    assert push(tmp_path / "1.0.0-r0", "--channel=stable")[0] == 0
    assert cli.main(["repository", "verify", "stable", f"--bucket={store.location}"]) == 0


def test_two_projects_that_begin_a_channel_at_once(store: Store, tmp_path: Path) -> None:
    other = key_called("acme-shop.rsa.pub")
    theirs = signed_repository(tmp_path / "theirs", arch=ARCH, names=("shop",), key=other)
    ours = signed_repository(tmp_path / "ours", arch=ARCH)
    pushed: list[bool] = []

    def before(request: Request) -> None:
        if request.method == "PUT" and request.path.endswith("/SHA256SUMS") and not pushed:
            pushed.append(True)
            adding.add(store.channel(key=other), adding.built([theirs]), "shop")

    with proxy(store.server.endpoint, before=before) as endpoint:
        bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
        with pytest.raises(BucketError, match="is signed by acme-shop"):
            adding.add(Channel(bucket, "stable", [key_called(KEY)]), adding.built([ours]), "notes")
    # What they came too late with may be there (no index names it), but the channel is the other's.
    assert b"package=shop\n" in store.objects()["channels/stable/install.sh"]
    assert [each.name for each in live(store.channel(key=other))] == ["shop"]


def live(channel: Channel) -> tuple[Stanza, ...]:
    index = channel.index(ARCH)
    return () if index is None else index.stanzas


def test_without_the_right_to_list_a_channel_grows_all_the_same(store: Store, tmp_path: Path) -> None:
    def before(request: Request) -> Answer | None:
        return s3_error(403, "AccessDenied") if "list-type=2" in request.path else None

    with proxy(store.server.endpoint, before=before) as endpoint:
        for number, version in enumerate(("1.0.0-r0", "1.1.0-r0")):
            built = signed_repository(tmp_path / version, version, arch=ARCH, commit=f"{number:040x}")
            bucket = Bucket(store.location, endpoint_url=endpoint, env=store.server.env)
            adding.add(Channel(bucket, "stable", [key_called(KEY)]), adding.built([built]), "notes")
    assert store.versions() == ["notes-1.0.0-r0", "notes-1.1.0-r0"]

"""Which keys a command signs with, and what it says where they are none that can."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pakman import arguments, channel_commands, key_commands, signing
from pakman.bucket import Bucket, Location
from pakman.errors import SigningError
from pakman.progress import Progress
from tests.repositories import repository

DEFAULT = "acme-shop.rsa.pub"
NEW = "acme-shop-5f3a9c01.rsa.pub"
BOTH = ("PAKMAN_SIGNING_KEY", "PAKMAN_PREVIOUS_SIGNING_KEY")


@functools.cache
def pem(number: int) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048 + 8 * number)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def old() -> str:
    return pem(0)


def new() -> str:
    return f"Key-Name: {NEW}\n{pem(1)}"


def build(*flags: str) -> argparse.Namespace:
    return arguments.parser().parse_args(["build", "--output=x", *flags])


def names(args: argparse.Namespace, **env: str) -> list[str]:
    return [key.name for key in key_commands.given(args, env, DEFAULT)]


def test_the_signing_key_comes_first_wherever_each_comes_from(tmp_path: Path) -> None:
    (tmp_path / "new").write_text(new())
    (tmp_path / "old").write_text(old())
    both = [f"--signing-key={tmp_path / 'new'}", f"--previous-signing-key={tmp_path / 'old'}"]
    assert names(build()) == names(build(), PAKMAN_SIGNING_KEY="", PAKMAN_PREVIOUS_SIGNING_KEY="") == []
    assert names(build(both[0])) == names(build(), PAKMAN_SIGNING_KEY=new()) == [NEW]
    for args, env in (
        (build(*both), {}),
        (build(*both), dict.fromkeys(BOTH, "not asked")),
        (build(both[0]), {"PAKMAN_PREVIOUS_SIGNING_KEY": old()}),
        (build(both[1]), {"PAKMAN_SIGNING_KEY": new()}),
        (build(), dict(zip(BOTH, (new(), old()), strict=True))),
    ):
        assert names(args, **env) == [NEW, DEFAULT]
    # Back again, where something is wrong with the new one.
    assert names(build(), PAKMAN_SIGNING_KEY=old(), PAKMAN_PREVIOUS_SIGNING_KEY=new()) == [DEFAULT, NEW]


@pytest.mark.parametrize(
    ("env", "message", "hint"),
    [
        (lambda: ("", old()), "there is a previous signing key, but no signing key", "in a workflow signing-key"),
        (lambda: (new(), new()), "the signing key and the previous signing key are the same key", "--rotate"),
        (lambda: (new(), f"Key-Name: other.rsa.pub\n{pem(1)}"), "are the same key", "--rotate"),
        (lambda: (pem(1), old()), f"are both called {DEFAULT}, and machines know", "is that missing?"),
        (lambda: (new(), "nonsense"), "the previous signing key is not a private key", "PAKMAN_PREVIOUS_SIGNING_KEY"),
        (lambda: ("nonsense", old()), "the signing key is not a private key", "PAKMAN_SIGNING_KEY"),
    ],
)  # fmt: skip
def test_two_that_cannot_sign_beside_each_other_are_one_sentence(
    env: Callable[[], tuple[str, str]], message: str, hint: str
) -> None:
    with pytest.raises(SigningError, match=message) as caught:
        names(build(), **dict(zip(BOTH, env(), strict=True)))
    assert hint in caught.value.hint
    assert "PRIVATE" not in caught.value.message


@pytest.mark.parametrize("flag", ["signing-key", "previous-signing-key"])
@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "it is not text")])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, flag: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    role = flag.replace("-", " ")
    with pytest.raises(SigningError, match=f"the {role} {tmp_path}/key cannot be read: {reason}") as caught:
        names(build(f"--{flag}={tmp_path / 'key'}"), PAKMAN_SIGNING_KEY=new())
    assert f"PAKMAN_{flag.replace('-', '_').upper()}" in caught.value.hint


def test_without_keys_there_are_none(tmp_path: Path) -> None:
    args, env = build(f"--signing-key={tmp_path}", f"--previous-signing-key={tmp_path}"), dict.fromkeys(BOTH, "x")
    left = key_commands.without(args, {**env, "PATH": "/bin"})
    assert key_commands.given(args, left, DEFAULT) == ()
    assert not key_commands.is_given(args, left)
    assert left["PATH"] == "/bin"


@pytest.mark.parametrize("output", ["", "my keys"])
def test_a_key_that_follows_comes_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.setattr(signing, "_KEYGEN_BITS", 2048)
    monkeypatch.chdir(tmp_path)
    flags = [f"--output={output}"] if output else []
    args = arguments.parser().parse_args(["keygen", "--rotate", "--project=acme/shop", *flags])
    said = key_commands.keygen(args, {})
    (private,) = (tmp_path / output).glob("*.rsa")
    file = str(private.relative_to(tmp_path))
    quoted = f"'{file}'" if output else file
    secret = f"PAKMAN_SIGNING_KEY_{private.stem[-8:].upper()}"
    for line in (
        f"{file}  the new secret: keep a copy, never commit it",
        f"gh secret set {secret} < {quoted}",
        f"signing-key: ${{{{ secrets.{secret} }}}}",
        "previous-signing-key: ${{ secrets.PAKMAN_SIGNING_KEY }} # what signing-key had",
        f"--signing-key {quoted} --previous-signing-key FILE-OF-THE-OLD-KEY",
        f"wget -P /etc/apk/keys https://.../keys/{private.name}.pub",
    ):
        assert line in [each.strip() for each in said.splitlines()]
    assert [line[0] for line in said.splitlines() if line[1:3] == ". "] == ["1", "2", "3", "4"]
    assert not any(line in said for line in private.read_text().splitlines()[2:-1])


def test_the_key_that_it_follows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "_KEYGEN_BITS", 2048)
    monkeypatch.chdir(tmp_path)
    rotate = arguments.parser().parse_args(["keygen", "--rotate", "--project=acme/shop"])
    (tmp_path / "acme-shop.rsa").write_text("the first")
    # Keys of other projects, and what is no key of keygen's.
    for name in ("acme-shop-two.rsa", "acme-shop.rsa.pub", "acme-shopping-0123abcd.rsa"):
        (tmp_path / name).write_text("another")
    said = key_commands.keygen(rotate, {})
    assert "--previous-signing-key acme-shop.rsa\n" in said
    assert "rm /etc/apk/keys/acme-shop.rsa.pub\n" in said
    assert "from before" not in said
    # Which of two it follows, nobody knows; and the second may not have taken its place yet.
    (second,) = (each for each in tmp_path.glob("acme-shop-*.rsa") if len(each.stem) == len("acme-shop-0123abcd"))
    said = key_commands.keygen(rotate, {})
    assert "--previous-signing-key FILE-OF-THE-OLD-KEY\n" in said
    (third,) = (each for each in tmp_path.glob("acme-shop-????????.rsa") if each != second)
    assert said.startswith(f"{second.name} is here from before. If the rotation to it is not finished, go on with that")
    assert f"  rm {third.name} {third.name}.pub\n" in said


def test_a_channel_is_signed_with_the_keys_of_the_packages(tmp_path: Path) -> None:
    args = arguments.parser().parse_args(["push", "x", "--bucket=s3://b", "--channel=stable"])
    both = dict(zip(BOTH, (new(), old()), strict=True))
    keys = key_commands.given(args, both, DEFAULT)
    built = repository(tmp_path, {"notes": b""}, key_name=NEW, key=keys[0].public_pem, previous_key_name=DEFAULT)
    built = dataclasses.replace(built, project="shop")
    built.public_keys[1].write_bytes(keys[1].public_pem)
    bucket = Bucket(Location("b", ""), env={})
    channel = channel_commands.channel_for(args, both, bucket, (built,))
    assert channel is not None
    assert [key.name for key in channel.keys] == [NEW, DEFAULT]
    for text, message, hint in (
        (new(), f"--previous-signing-key is missing: notes was built with {NEW} and {DEFAULT}", "give both"),
        (pem(1), "--previous-signing-key is missing", "PAKMAN_PREVIOUS_SIGNING_KEY"),
        (
            f"Key-Name: {NEW}\n{old()}",
            f"the signing key is not {NEW} and {DEFAULT}, which notes",
            "the previous one included",
        ),
    ):
        with pytest.raises(SigningError, match=message) as caught:
            channel_commands.channel_for(args, {"PAKMAN_SIGNING_KEY": text}, bucket, (built,))
        assert hint in caught.value.hint
    alone = dataclasses.replace(built, previous_key_name=None)
    with pytest.raises(SigningError, match=f"the signing key and the previous one are not {NEW}, which"):
        channel_commands.channel_for(args, both, bucket, (alone,))


def test_what_is_signed_with_is_said() -> None:
    said = StringIO()
    progress = Progress(said, "plain", time.monotonic)
    keys, is_throwaway = key_commands.to_sign_with(
        build(), {"PAKMAN_SIGNING_KEY": new(), "PAKMAN_PREVIOUS_SIGNING_KEY": old()}, DEFAULT, progress
    )
    assert ([key.name for key in keys], is_throwaway) == ([NEW, DEFAULT], False)
    assert f"signed with {NEW} and, for machines that have no other, {DEFAULT}" in said.getvalue()
    keys, is_throwaway = key_commands.to_sign_with(build(), {}, DEFAULT, progress)
    assert ([key.name for key in keys], is_throwaway) == ([DEFAULT], True)
    assert "signed with a throwaway key" in said.getvalue()


def test_a_file_of_another_project_s_name_is_said(tmp_path: Path) -> None:
    def said(file: str, text: str) -> str:
        (tmp_path / file).write_text(text)
        stream = StringIO()
        args = build(f"--signing-key={tmp_path / file}")
        key_commands.to_sign_with(args, {}, DEFAULT, Progress(stream, "plain", time.monotonic))
        return stream.getvalue()

    assert said("acme-notes.rsa", old()) == ""
    for name in ("acme-notes.rsa.pub", "acme-shop.rsa.pub", f"{NEW}"):
        (tmp_path / name).touch()
    told = said("acme-notes.rsa", old())
    assert f"acme-notes.rsa signs as {DEFAULT}, after the project, and not as acme-notes.rsa.pub" in told
    assert "--project OWNER/NAME" in told
    # Its own, and those that carry their name.
    assert said("acme-shop.rsa", old()) == said(NEW.removesuffix(".pub"), new()) == said("acme-notes.rsa", new()) == ""
    # One of `keygen --rotate` that has lost the line with its name.
    assert f"signs as {DEFAULT}" in said(NEW.removesuffix(".pub"), pem(1))

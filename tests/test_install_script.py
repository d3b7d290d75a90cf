"""install.sh is the golden one, and no value that it is made for is shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman import install_script
from pakman.errors import UsageError
from pakman.install_script import PublicKeyAt

GOLDEN = Path(__file__).parent / "golden/install.sh"
URL = "https://bucket.example/shop/channels/stable"
KEYS = (
    PublicKeyAt("acme-shop.rsa.pub", "https://bucket.example/shop/keys/acme-shop.rsa.pub", "0123456789abcdef" * 4),
    PublicKeyAt("acme-shop-2.rsa.pub", "https://bucket.example/shop/keys/acme-shop-2.rsa.pub", "fedcba9876543210" * 4),
)
NASTY = "http://a'b;touch$IFS/x&$(id)*~!@[::1]:80/%20=,+"
"""Whatever an address may have in it that is also a word of the shell's."""


def render(package: str = "shop", keys: Sequence[PublicKeyAt] = KEYS, repository_url: str = URL) -> str:
    return install_script.render(package=package, keys=keys, repository_url=repository_url).decode()


def test_the_script_is_the_golden_one(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(render())
    assert GOLDEN.read_text() == render()


def test_nothing_is_done_before_the_last_line() -> None:
    *lines, last = render().splitlines()
    assert last == "main"
    # A function, or a line in it, or a value that everything can be made again from.
    for line in lines:
        assert re.match(r"#|$|\t|[a-z_]+\(\) \{$|\}$|(keys|repositories)=/etc/apk/\w+$", line), line


@given(st.from_regex(install_script._URL, fullmatch=True) | st.just(NASTY))
def test_an_address_is_one_word_of_the_shell(url: str) -> None:
    key = PublicKeyAt("a.rsa.pub", url, "0" * 64)
    script = render(keys=[key], repository_url=url)
    (line,) = re.findall(r"^\trepository=(.*)$", script, re.MULTILINE)
    assert shlex.split(line) == [url]
    (line,) = re.findall(r"^\tfetch_key (.*)$", script, re.MULTILINE)
    assert shlex.split(line) == [key.name, url, key.sha256]


@pytest.mark.parametrize(
    "text", ["", "\tpackage=\n\trepository=\n", "\tpackage='a b'\n\trepository='x\n", "\tpackage=$(id)\n"]
)
def test_a_script_of_somebody_else_names_nothing(text: str) -> None:
    assert (install_script.repository_url(text.encode()), install_script.package(text.encode())) == (None, None)


@given(st.from_regex(install_script._URL, fullmatch=True) | st.just(NASTY))
def test_the_address_can_be_read_again(url: str) -> None:
    script = render(repository_url=url).encode()
    assert (install_script.repository_url(script), install_script.package(script)) == (url, "shop")


@pytest.mark.parametrize(
    "line", [b"", b"repository=x", b"\trepository=", b"\trepository='", b"\trepository=a b", b"\trepository=\xff"]
)
def test_no_address_is_read_from_another_script(line: bytes) -> None:
    assert install_script.repository_url(b"#!/bin/sh\n" + line + b"\n") is None


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://a.example/x", "/srv/packages", "https://a.example/a b", "https://a.example/\nhttps://b.example",
        "https://a.example/a\n", "https://a.example/${x}", "https://a.example/`id`", 'https://a.example/"', "https://ü.example",
        "https://a.example/\\", "https://a.example/x?y", "https://a.example/x#y", "https://a.example/\0", "@t https://a.example",
    ],
)  # fmt: skip
def test_an_address_that_a_machine_could_not_write_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="the repository is") as caught:
        render(repository_url=url)
    assert caught.value.message.startswith("install.sh cannot be written")
    assert "--public-url" in caught.value.hint
    with pytest.raises(UsageError, match="the key is"):
        render(keys=[PublicKeyAt("a.rsa.pub", url, "0" * 64)])


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "-a", "a b", "a\n", "$(id)"])
def test_a_name_that_none_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="the package is"):
        render(package=name)
    with pytest.raises(UsageError, match="the key's name is"):
        render(keys=[PublicKeyAt(name, URL, "0" * 64)])
    with pytest.raises(UsageError, match="the key's SHA-256 is"):
        render(keys=[PublicKeyAt("a.rsa.pub", URL, name)])

"""What dependencies name, held against an index: found, provided, misspelt, too old."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pakman import stack, validation
from pakman.apk.index import Stanza
from pakman.validation import packages
from pakman.validation.packages import Versions

STANZAS = (
    "P:nodejs\nV:24.11.1-r0\np:cmd:node=24.11.1-r0 nodejs-lts=24 so:libnode.so.137=137\n",
    "P:nodejs-current\nV:25.2.0-r1\n",
    "P:npm\nV:11.6.2-r0\np:cmd:npm=11.6.2-r0\n",
    "P:build-base\nV:0.5-r3\n",
    "P:busybox\nV:1.37.0-r30\np:/bin/sh cmd:sh=1.37.0-r30 mail-reader\n",
)
STACK = stack.find("alpine/3.23")
assert STACK is not None


def table(*texts: str) -> Versions:
    versions: Versions = {}
    packages.add(versions, (Stanza(text) for text in texts))
    return versions


X86_64 = {"x86_64": {"": table(*STANZAS)}}


def said(
    tmp_path: Path, build: str = "", runtime: str = "", offers: packages.Offers = X86_64
) -> list[tuple[str, str, str, int, str, str]]:
    file = tmp_path / "instellar.yml"
    file.write_text(
        f"dependencies:\n  build: [{build}]\n  runtime:\n    - nodejs\n{f'    - {runtime}' if runtime else ''}\n"
    )
    verdict = validation.validate(file, repository=None, today=datetime.date(2026, 11, 21))
    assert verdict.root is not None
    assert STACK is not None
    return [
        (severity, found.code, found.path, found.line, found.message, found.hint)
        for severity, found in packages.faults(verdict.root, STACK, offers, "shop")
    ]


@pytest.mark.parametrize(
    "word",
    [
        "nodejs", "cmd:node", "so:libnode.so.137", "so:libnode.so.137=137", "nodejs-lts", "nodejs-lts>23", "/bin/sh",
        "mail-reader", "nodejs>=20", "nodejs~24.11", "nodejs=24.11.1-r0", "nodejs<25", "'!no-such-thing'", "shop",
        "shop-openrc", "shop-openrc=1.2-r0",
    ],
)  # fmt: skip
def test_what_is_there_is_not_spoken_of(tmp_path: Path, word: str) -> None:
    assert said(tmp_path, word, word) == []


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("nodejss", "alpine/3.23 has no package 'nodejss' for x86_64", "did you mean nodejs? https://pkgs.alpine"),
        ("NPM", "no package 'NPM'", "did you mean npm? "),
        ("build-essential", "no package 'build-essential'", "did you mean build-base? "),
        ("zzz>=1", "no package 'zzz' for", "https://pkgs.alpinelinux.org/packages?name=zzz*&branch=v3.23 finds"),
        ("cmd:nod", "nothing that provides 'cmd:nod'", "did you mean cmd:node? https://pkgs.alpinelinux.org/contents?"),
        ("cmd:np", "nothing that provides 'cmd:np'", "did you mean cmd:npm? "),
        ("cmd:go", "nothing that provides 'cmd:go'", "https://pkgs.alpinelinux.org/contents?file=go&branch=v3.23 "),
        ("so:libx.so.1", "nothing that provides 'so:libx.so.1'", "contents?file=libx.so.1&branch=v3.23"),
    ],
)
def test_what_is_nowhere_is_named_with_the_nearest(tmp_path: Path, word: str, message: str, hint: str) -> None:
    ((severity, code, path, line, sentence, advice),) = said(tmp_path, f"npm, {word}")
    assert (severity, code, path, line) == ("error", "unknown-package", "dependencies.build[1]", 2)
    assert message in sentence
    assert hint in advice


def test_a_package_of_ones_own_repository_is_no_error_on_a_machine(tmp_path: Path) -> None:
    ((severity, code, path, line, _, _),) = said(tmp_path, runtime="shop-data")
    assert (severity, code, path, line) == ("warning", "unknown-package", "dependencies.runtime[1]", 5)


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("nodejs>=25", "alpine/3.23 has nodejs 24.11.1-r0 for x86_64", "write 'nodejs~24.11'"),
        ("nodejs=24.11.1", "has nodejs 24.11.1-r0", "write 'nodejs~24.11'"),
        ("nodejs~2", "has nodejs 24.11.1-r0", "write 'nodejs~24.11'"),
        ("mail-reader>1", "has mail-reader without a version", "write 'mail-reader'"),
    ],
)
def test_a_version_that_is_not_to_be_had_is_told_the_one_that_is(
    tmp_path: Path, word: str, message: str, hint: str
) -> None:
    ((severity, code, _, _, sentence, advice),) = said(tmp_path, word)
    assert (severity, code) == ("error", "unmet-version")
    assert f"'{word}' is not to be had: " in sentence
    assert message in sentence
    assert hint in advice


def test_of_several_versions_one_has_to_do(tmp_path: Path) -> None:
    offers = {"x86_64": {"": table(*STANZAS, "P:nodejs\nV:22.1-r0\n")}}
    assert said(tmp_path, "nodejs<23, nodejs>24", offers=offers) == []
    ((*_, sentence, _),) = said(tmp_path, "nodejs>30", offers=offers)
    assert "has nodejs 24.11.1-r0" in sentence


def test_an_architecture_that_lacks_it_is_named(tmp_path: Path) -> None:
    offers = {**X86_64, "riscv64": {"": table("P:nodejs\nV:19-r0\n")}}
    missing, unmet = said(tmp_path, "npm, nodejs>20", offers=offers)
    assert missing[4] == "alpine/3.23 has no package 'npm' for riscv64"
    assert unmet[4].endswith("has nodejs 19-r0 for riscv64")


def test_a_tag_asks_its_own_repository_too(tmp_path: Path) -> None:
    offers = {"x86_64": {"": table(*STANZAS), "edge": table("P:wasi-sdk\nV:27-r0\n")}}
    assert said(tmp_path, "wasi-sdk@edge, npm@edge", offers=offers) == []
    assert [found[1] for found in said(tmp_path, "wasi-sdk, gone@edge", offers=offers)] == ["unknown-package"] * 2
    # A tag that only the build root's own repositories have.
    assert said(tmp_path, "gone@own", offers=offers) == []

"""Which repositories are asked, and what is made of apk's refusals; the real apk is asked in tests/integration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from pakman.buildroots import apk_add
from pakman.errors import BuildError
from pakman.stack import ROOTS_OWN

MIRROR = "https://mirror.example/alpine/v3.23/main"
MISSING = ["ERROR: unable to select packages:", "  nodejss (no such package):", "    required by: world[nodejss]"]
TOO_NEW = ["ERROR: unable to select packages:", "  nodejs-22.1.0-r0:", "    breaks: world[nodejs>=99]"]


@pytest.mark.parametrize(
    ("words", "said", "message", "hint"),
    [
        (
            ["git", "nodejss"],
            MISSING,
            f"the build needs nodejss, which Alpine 3.23.6 does not have; asked: {MIRROR}",
            "branch=v3.23",
        ),
        (
            ["nodejs>=99"],
            TOO_NEW,
            "the build needs nodejs>=99 (there is nodejs-22.1.0-r0), which Alpine 3.23.6 does not have; "
            f"asked: {MIRROR}",
            "dependencies.build",
        ),
        (
            ["git", "jq"],
            ["ERROR: Unable to lock database: Read-only file system"],
            f"apk cannot add git jq: Unable to lock database: Read-only file system; asked: {MIRROR}",
            "",
        ),
        (["git"], [], f"apk cannot add git: ; asked: {MIRROR}", ""),
    ],
)
def test_says_what_where_and_the_way_out(words: list[str], said: list[str], message: str, hint: str) -> None:
    error = apk_add.refusal(words, said, repositories=[MIRROR], release="3.23.6")
    assert error.message == message
    assert hint in error.hint


def test_the_network_is_asked_only_when_it_is_needed() -> None:
    asked: list[list[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, list[str]]:
        asked.append(list(argv))
        if argv[0] == "sed":
            return 0, [MIRROR]
        return (1 if "--no-network" in argv else 0), ["OK: 1 MiB in 1 packages"]

    lines: list[str] = []
    apk_add.add(["git"], run, lines.append, release="3.23.6")
    assert [("--no-network" in argv) for argv in asked if argv[:2] == ["apk", "add"]] == [True, False]
    assert asked[-1] == ["apk", "cache", "clean", "--no-network"]
    assert lines == ["OK: 1 MiB in 1 packages"]


def test_a_word_is_never_an_option() -> None:
    def run(argv: Sequence[str]) -> tuple[int, list[str]]:
        assert "--allow-untrusted" not in argv[: argv.index("--")]
        return 0, []

    apk_add.add(["--allow-untrusted"], run, print, release="3.23.6")


def test_without_repositories_that_is_said() -> None:
    error = apk_add.refusal(["git"], MISSING, repositories=[], release="3.23.6")
    assert error.message.endswith("asked: no repository: /etc/apk/repositories is empty")
    assert isinstance(error, BuildError)


class Network:
    """A root whose own repository is https://own.example, and mirrors of which some answer."""

    def __init__(self, *up: str, has: bool = True) -> None:
        self.up = up
        self.has = has
        self.asked: list[str] = []
        self.arguments: list[str] = []
        self.warnings: list[str] = []

    def run(self, argv: Sequence[str]) -> tuple[int, list[str]]:
        if argv[0] == "sed":
            return 0, ["https://own.example"]
        if "--no-network" in argv:
            return 1, []
        self.arguments = list(argv)
        given = [word for before, word in pairwise(argv) if before == "--repository"]
        self.asked += (names := given or ["https://own.example"])
        said = [
            f"WARNING: updating and opening {name}/x86_64/APKINDEX.tar.gz: DNS: name does not exist"
            for name in names
            if name not in self.up
        ]
        found = self.has and any(name in self.up for name in names)
        return 0 if found else 1, said if found else said + MISSING

    def add(self, *repositories: tuple[str, ...], release: str = "3.23.6") -> Sequence[tuple[str, ...]]:
        return apk_add.add(
            ["nodejss"], self.run, lambda _: None, release=release, repositories=repositories,
            on_warning=self.warnings.append,
        )  # fmt: skip


A, B, C = ("https://a.example",), ("https://b.example",), ("https://c.example",)


def test_one_that_cannot_be_reached_is_a_warning_and_is_not_asked_again() -> None:
    network = Network(*C)
    left = network.add(A, ROOTS_OWN, C, B)
    assert network.asked == [*A, "https://own.example", *C]
    assert network.warnings == [
        "https://a.example cannot be reached (DNS: name does not exist): the next in order is asked",
        "https://own.example cannot be reached (DNS: name does not exist): the next in order is asked",
    ]
    assert left == (C, B)


def test_part_of_a_set_may_be_enough() -> None:
    network = Network(*B)
    assert network.add((*A, *B), C) == ((*A, *B), C)
    assert network.warnings == [
        "https://a.example cannot be reached (DNS: name does not exist): what is needed was there"
    ]


def test_none_that_can_be_reached_is_an_error_that_lists_them() -> None:
    network = Network()
    with pytest.raises(BuildError) as caught:
        network.add(ROOTS_OWN, A, B)
    assert caught.value.message == (
        "the build needs nodejss, which the Alpine root does not have, and none of the repositories serve: "
        "https://own.example cannot be reached (DNS: name does not exist); "
        "https://a.example cannot be reached (DNS: name does not exist); "
        "https://b.example cannot be reached (DNS: name does not exist)"
    )
    assert len(network.warnings) == 2
    for way_out in ("--mirror", ".pakman.toml", "--rootfs"):
        assert way_out in caught.value.hint


def test_what_one_that_answers_does_not_have_no_other_is_asked_for() -> None:
    network = Network(*A, has=False)
    with pytest.raises(BuildError, match=r"which Alpine 3\.23\.6 does not have; asked: https://a\.example$"):
        network.add(A, B)
    assert network.asked == [*A]


def test_the_same_repositories_are_asked_once() -> None:
    network = Network()
    with pytest.raises(BuildError):
        network.add(ROOTS_OWN, A, ("https://own.example",), A)
    assert network.asked == ["https://own.example", *A]


def test_a_package_that_does_not_come_is_fetched_from_the_next() -> None:
    warnings: list[str] = []

    def run(argv: Sequence[str]) -> tuple[int, list[str]]:
        if "https://b.example" in argv:
            return 0, []
        return 1, ["ERROR: git-2.52.0-r0: package mentioned in index not found (try 'apk update')"]

    assert apk_add.add(["git"], run, print, release="3.23.6", repositories=(A, B), on_warning=warnings.append) == (B,)
    assert warnings == [
        "git-2.52.0-r0 does not come from https://a.example (package mentioned in index not found (try 'apk update')): "
        "the next in order is asked"
    ]


@pytest.mark.parametrize(
    ("release", "patient"), [("3.14.10", True), ("3.17.0", True), ("3.18.0", False), ("3.24_alpha20260127", False)]
)
def test_an_apk_that_cannot_be_hurried_is_not(release: str, *, patient: bool) -> None:
    network = Network(*A)
    network.add(A, release=release)
    assert ("--timeout" in network.arguments) is not patient
    assert network.arguments[-2:] == ["--", "nodejss"]
    assert "/dev/null" in network.arguments

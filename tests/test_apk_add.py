"""What is made of apk's refusals; the real apk's are in tests/integration/test_sandbox.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pakman.buildroots import apk_add
from pakman.errors import BuildError

MIRROR = "https://mirror.example/alpine/v3.23/main"
MISSING = ["ERROR: unable to select packages:", "  nodejss (no such package):", "    required by: world[nodejss]"]
TOO_NEW = ["ERROR: unable to select packages:", "  nodejs-22.1.0-r0:", "    breaks: world[nodejs>=99]"]
OFFLINE = [f"WARNING: updating and opening {MIRROR}/x86_64/APKINDEX.tar.gz: DNS: transient error (try again later)"]


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
            ["git", "nodejs"],
            OFFLINE + MISSING,
            "the build needs nodejss, which the Alpine root does not have, and the repositories cannot be reached "
            f"(DNS: transient error (try again later)): {MIRROR}",
            "--rootfs",
        ),
        (
            ["git", "jq"],
            ["ERROR: git-2.52.0-r0: No space left on device"],
            f"apk cannot add git jq: git-2.52.0-r0: No space left on device; asked: {MIRROR}",
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
        return (1 if "--no-network" in argv else 0), ["OK: 1 MiB in 1 packages"]

    lines: list[str] = []
    apk_add.add(["git"], run, lines.append, release="3.23.6")
    assert [("--no-network" in argv) for argv in asked] == [True, False]
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

"""The real apk has the last word on what a version is, and which of two is newer."""

from __future__ import annotations

import itertools
import re
from typing import TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pakman import version
from tests.integration.conftest import AlpineRoot
from tests.versions import ASCENDING, INVALID, VALID, relatives, valid_versions

pytestmark = pytest.mark.alpine

T = TypeVar("T")

SIGNS = {-1: "<", 0: "=", 1: ">"}


def examples(strategy: SearchStrategy[T], count: int) -> list[T]:
    """Return other values in every run: a disagreement that is found names its pair, which then joins the tables."""
    found: list[T] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(strategy)
    def collect(value: T) -> None:
        found.append(value)

    collect()
    return found


def answers(root: AlpineRoot, script: str, lines: list[str]) -> list[str]:
    """Run a shell script once over all lines; return what it wrote for each."""
    done = root.run("/bin/sh", "-c", script, stdin="".join(f"{line}\n" for line in lines).encode())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_apk_orders_any_two_versions_as_we_do(alpine_root: AlpineRoot) -> None:
    pairs = [(a, b) for line in ASCENDING for a, b in itertools.product(line.split(), repeat=2)]
    pairs = [(a, b) for a, b in pairs if version.is_valid(a) and version.is_valid(b)]
    pairs += [(a, b) for a, b in examples(relatives(2), 400)]
    pairs += examples(st.tuples(valid_versions, valid_versions), 100)
    script = 'while read -r a b; do apk version -t "$a" "$b" || echo not valid; done'
    told = answers(alpine_root, script, [f"{a} {b}" for a, b in pairs])
    assert len(told) == len(pairs) > 900
    ours = [SIGNS[version.compare(a, b)] for a, b in pairs]
    assert [(pair, sign) for pair, sign in zip(pairs, told, strict=True)] == list(zip(pairs, ours, strict=True))


def test_apk_takes_the_versions_that_we_take(alpine_root: AlpineRoot) -> None:
    texts = (
        VALID.split() + INVALID.split() + examples(st.text(alphabet="0123abr._~-prcgit", min_size=1, max_size=10), 300)
    )
    texts += [
        text for text in examples(st.text(min_size=1, max_size=8), 60) if re.fullmatch(r"[^\0\n\ud800-\udfff]+", text)
    ]
    # A part taken out of a valid one: most of these are wrong by one character only.
    texts += [text[:at] + text[at + 1 :] for text, at in examples(st.tuples(valid_versions, st.integers(0, 9)), 200)]
    texts = [text for text in texts if text]
    script = 'while IFS= read -r a; do apk version --check --quiet -- "$a" >/dev/null 2>&1 && echo yes || echo no; done'
    told = answers(alpine_root, script, texts)
    assert {"yes", "no"} == set(told)
    ours = ["yes" if version.is_valid(text) else "no" for text in texts]
    assert list(zip(texts, told, strict=True)) == list(zip(texts, ours, strict=True))


@pytest.mark.parametrize("tag", ["v1.2.3", "v1.2", "v1.2.3-rc.1", "v1.2.3-rc", "v1.2.3-p1"])
def test_to_apk_a_later_commit_lies_between_two_tags(alpine_root: AlpineRoot, tag: str) -> None:
    nexts = {"v1.2": "v1.2.0", "v1.2.3": "v1.2.4-alpha", "v1.2.3-p1": "v1.2.3-p2"}
    tagged, following = version.from_tag(tag), version.from_tag(nexts.get(tag, "v1.2.3-rc2"))
    first, second = version.after(tagged, 1706745599), version.after(tagged, 1706745600)
    ascending = [tagged, first, second, following]
    script = 'while read -r a b; do apk version -t "$a" "$b"; done'
    assert answers(alpine_root, script, [f"{a} {b}" for a, b in itertools.pairwise(ascending)]) == ["<", "<", "<"]

"""apk's version grammar and order; what a git tag becomes in it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman import version
from pakman.errors import UsageError
from tests.versions import ASCENDING, INVALID, VALID, relatives, valid_versions

EQUAL = [
    ("1.2.3", "1.2.3"),
    ("01", "1"),
    ("1_rc01", "1_rc1"),
    ("1-r00", "1-r0"),
    # apk counts in 64 bits.
    ("18446744073709551616", "0"),
    ("1_git18446744073709551617", "1_git1"),
    # Both stop being valid at the same place.
    ("1.0+a", "1.0+b"),
    ("", "x"),
]


@pytest.mark.parametrize("line", ASCENDING)
def test_versions_are_ordered_as_apk_orders_them(line: str) -> None:
    words = line.split()
    for (left, a), (right, b) in itertools.product(enumerate(words), repeat=2):
        assert version.compare(a, b) == (left > right) - (left < right), (a, b)
    assert sorted(sorted(words), key=version.sort_key) == words


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_different_texts_can_be_the_same_version(a: str, b: str) -> None:
    assert version.compare(a, b) == version.compare(b, a) == 0


@pytest.mark.parametrize("text", VALID.split())
def test_valid(text: str) -> None:
    assert version.is_valid(text)


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1\n", "1\0", "1 2", *INVALID.split()])
def test_not_valid(text: str) -> None:
    assert not version.is_valid(text)
    assert not version.is_valid_pkgver(text)


@pytest.mark.parametrize("text", ["1.2.3_rc1", "1.2.3_git20240101", "1.2.3_p5", "0.0.0", "1.2b", "1.2~ab"])
def test_pkgver(text: str) -> None:
    assert version.is_valid_pkgver(text)


def test_pkgver_has_no_release() -> None:
    assert version.is_valid("1.2.3-r1")
    assert not version.is_valid_pkgver("1.2.3-r1")


def test_a_version_of_ten_thousand_digits_is_no_trouble() -> None:
    assert version.compare("9" * 10_000, "1") in (-1, 1)
    assert version.is_valid_pkgver("9" * 10_000)


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("1.2.3-r4", "1.2.3-r3"),
        ("1.2.3-r0", "1.2.3_alpha-r0"),
        ("1.2.3_rc1~ab-r0", "1.2.3_rc1_alpha~ab-r0"),
        ("1.2.3~ab-r1", "1.2.3~ab-r0"),
    ],
)
def test_the_version_before(now: str, then: str) -> None:
    assert version.before(now) == then


@given(valid_versions)
def test_the_version_before_any_is_valid_and_older(text: str) -> None:
    then = version.before(text)
    assert version.is_valid(then)
    assert version.compare(then, text) < 0


@given(valid_versions)
def test_what_the_grammar_makes_is_valid(text: str) -> None:
    assert version.is_valid(text)


@given(st.text(alphabet="0123abr._~-prcgit \n", max_size=14))
def test_the_scanner_takes_what_the_grammar_says(text: str) -> None:
    # apk-package(5), as one expression.
    grammar = r"[0-9]+(\.[0-9]+)*[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*(~[0-9a-f]+)?(-r[0-9]+)?"
    assert version.is_valid(text) == bool(re.fullmatch(grammar, text))
    # The order knows it, too: the last part of what sorts is the end, or what is wrong.
    assert version.is_valid(text) == (version.sort_key(text)[-1] == version.sort_key("1")[-1])


@given(relatives(3))
def test_the_order_is_total(texts: list[str]) -> None:
    a, b, c = texts
    assert version.compare(a, a) == 0
    assert version.compare(a, b) == -version.compare(b, a)
    if version.compare(a, b) <= 0 and version.compare(b, c) <= 0:
        assert version.compare(a, c) <= 0


TAGS = {
    "v1.2.3": "1.2.3",
    "1.2.3": "1.2.3",
    "V1.2": "1.2",
    "v1": "1",
    "v1.2.3-rc.1": "1.2.3_rc1",
    "v1.2.3-rc1": "1.2.3_rc1",
    "v1.2.3-rc": "1.2.3_rc",
    "v1.2.3-RC1": "1.2.3_rc1",
    "v1.2.3rc1": "1.2.3_rc1",
    "v1.2.3.rc1": "1.2.3_rc1",
    "v1.2.3_rc1": "1.2.3_rc1",
    "v1.2.3-rc-1": "1.2.3_rc1",
    "v1.2.3-alpha.2": "1.2.3_alpha2",
    "v1.2.3-beta": "1.2.3_beta",
    "v1.2.3-pre.4": "1.2.3_pre4",
    "9.9p1": "9.9_p1",
    "v1.1.1w": "1.1.1w",
    "v1.2.3-beta.2-git20240101": "1.2.3_beta2_git20240101",
    "shop-v1.2.3": "1.2.3",
    "shop-v1.2.3-rc.1": "1.2.3_rc1",
    "my-shop2-v1.2.3": "1.2.3",
    "release-1.2": "1.2",
    "release/2.0.0": "2.0.0",
    "apps/shop@1.2.3": "1.2.3",
    "20241121": "20241121",
    "v2024.01.05": "2024.01.05",
}


@pytest.mark.parametrize(("tag", "expected"), TAGS.items())
def test_a_tag_becomes_a_version(tag: str, expected: str) -> None:
    assert version.looks_like_version(tag)
    assert version.from_tag(tag) == expected
    assert version.is_valid_pkgver(expected)


NEAREST = {
    "1.2.3+build": "1.2.3",
    "v1.2.3-rc.1+build.5": "1.2.3_rc1",
    "1.2.3-dev": "1.2.3_pre",
    "1.2.3.dev5": "1.2.3_pre5",
    "1.2.3-SNAPSHOT": "1.2.3_pre",
    "v1.2.3-preview.4": "1.2.3_pre4",
    "1.2.3a1": "1.2.3_alpha1",
    "1.2.3ab": "1.2.3",
    "v1.2.3-final": "1.2.3",
    "v1.2.3-rc.1.2": "1.2.3_rc1",
    "v1.2.3-r4": "1.2.3",
    "v1.2.3-1": "1.2.3.1",
    "v1.x": "1",
    "2024-11-21": "2024.11.21",
    "v1_2_3": "1.2.3",
    "v1.2.3-1.2": "1.2.3.1.2",
    "shop-v1.2.3+b1": "1.2.3",
}


@pytest.mark.parametrize(("tag", "near"), NEAREST.items())
def test_a_tag_that_cannot_be_mapped_is_refused_with_the_nearest_version(tag: str, near: str) -> None:
    assert version.looks_like_version(tag)
    assert version.nearest(tag) == near
    with pytest.raises(UsageError) as caught:
        version.from_tag(tag)
    assert caught.value.message == f"the tag {tag} is not a version that apk can order"
    assert f"--package-version {near}" in caught.value.hint
    suggested = caught.value.hint.partition("tag it ")[2].partition(",")[0]
    assert version.from_tag(suggested) == near


@pytest.mark.parametrize("tag", ["latest", "phase-2", "v", "vv1", "", "nightly-build", "python3.12-base", "v１"])
def test_a_tag_without_a_version_is_told_from_one_that_has_one(tag: str) -> None:
    assert not version.looks_like_version(tag)
    assert version.nearest(tag) is None
    with pytest.raises(UsageError) as caught:
        version.from_tag(tag)
    assert "v1.2.3" in caught.value.hint


def test_nearest_leaves_what_is_valid() -> None:
    assert version.nearest("v2") == "2"
    assert version.nearest("1.2.3_p1") == "1.2.3_p1"


@given(
    st.one_of(st.text(max_size=20), st.from_regex(r"(v|[a-z]{1,3}[-/@]v?)?[0-9]+([-._+a-z0-9]{0,12})", fullmatch=True))
)
def test_whatever_a_tag_is_it_gives_a_version_or_an_error(tag: str) -> None:
    near = version.nearest(tag)
    assert near is None or version.is_valid_pkgver(near)
    try:
        mapped = version.from_tag(tag)
    except UsageError:
        return
    assert version.is_valid_pkgver(mapped)
    assert version.looks_like_version(tag)


AFTER = {
    "1.2.3": ("1.2.3_git20240131235959", "1.2.3_p1 1.2.3a 1.2.3.1 1.2.4_alpha 1.2.4 1.3"),
    "1.2": ("1.2_git20240131235959", "1.2.0 1.2.1_rc1 1.2.1 1.3"),
    "1.2.3_rc1": ("1.2.3_rc1_git20240131235959", "1.2.3_rc2 1.2.3"),
    "1.2.3_rc": ("1.2.3_rc0_git20240131235959", "1.2.3_rc1 1.2.3"),
    "1.2.3_p1": ("1.2.3_p1_git20240131235959", "1.2.3_p2 1.2.4"),
    "1.2.3~ab": ("1.2.3_git20240131235959", "1.2.3_p1 1.2.4"),
}


@pytest.mark.parametrize(("tagged", "expected"), AFTER.items())
def test_a_later_commit_is_newer_than_its_tag_and_older_than_the_next(tagged: str, expected: tuple[str, str]) -> None:
    text, nexts = expected
    assert version.after(tagged, 1706745599) == text
    assert version.compare(tagged, text) < 0
    assert version.compare(text, version.after(tagged, 1706745600)) < 0
    for following in nexts.split():
        assert version.compare(text, following) < 0


@given(valid_versions, st.integers(0, 253402300799))
def test_a_later_commit_is_always_a_newer_version(text: str, time: int) -> None:
    tagged = text.partition("-r")[0]
    later = version.after(tagged, time)
    assert version.is_valid_pkgver(later)
    assert version.compare(tagged, later) < 0

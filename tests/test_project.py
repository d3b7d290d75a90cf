"""Owner, name, commit, version and release: flags first, then GitHub's variables. What git says is tested with git."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman import detection, git, project
from pakman.errors import UsageError

SHA = "0123456789abcdef0123456789abcdef01234567"
ON_GITHUB = {
    "GITHUB_REPOSITORY": "Acme/Web_Shop",
    "GITHUB_SHA": SHA,
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_REF_NAME": "main",
    "GITHUB_RUN_NUMBER": "42",
}


@pytest.fixture(autouse=True)
def _no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "find", lambda _directory, _env: None)


def detect(
    env: dict[str, str],
    *,
    name: str | None = None,
    package_version: str | None = None,
    package_release: str | None = None,
) -> project.Project:
    return detection.detect(
        Path("/srv/shop"), env, project=name, package_version=package_version, package_release=package_release
    )


def test_github_says_whose_project_it_is() -> None:
    found = detect(ON_GITHUB)
    assert (found.owner, found.name, found.slug) == ("Acme", "Web_Shop", "web-shop")
    assert (found.commit, found.commit_time, found.release) == (SHA, 0, 42)


@pytest.mark.parametrize(("tag", "expected"), [("v1.2.3", "1.2.3"), ("v2.0.0-rc.1", "2.0.0_rc1"), ("shop-v3.1", "3.1")])
def test_the_tag_that_started_the_workflow_is_the_version(tag: str, expected: str) -> None:
    found = detect({**ON_GITHUB, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": tag})
    assert (found.version, found.version_source) == (expected, f"tag {tag}")


def test_a_tag_that_apk_cannot_order_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        detect({**ON_GITHUB, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.3+build.5"})
    assert "v1.2.3+build.5" in caught.value.message
    assert "1.2.3" in caught.value.hint


@pytest.mark.parametrize(("kind", "name"), [("tag", "latest"), ("branch", "v1.2.3"), ("branch", "main")])
def test_a_branch_and_a_tag_without_a_version_give_none(kind: str, name: str) -> None:
    found = detect({**ON_GITHUB, "GITHUB_REF_TYPE": kind, "GITHUB_REF_NAME": name})
    assert found.version == "0.0.0"
    assert found.version_source.startswith("no tag: ")


def test_flags_win() -> None:
    tagged = {**ON_GITHUB, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v9"}
    found = detect(tagged, name="me/acme.dev", package_version="1.2.3_rc1", package_release="7")
    assert (found.owner, found.name, found.slug) == ("me", "acme.dev", "acme-dev")
    assert (found.version, found.version_source, found.release) == ("1.2.3_rc1", "--package-version", 7)
    assert found.commit == SHA


def test_without_git_and_github_the_flags_are_enough() -> None:
    found = detect({}, name="acme/shop")
    assert (found.commit, found.commit_time, found.version, found.release) == (None, 0, "0.0.0", 0)


def test_source_date_epoch_stands_in_for_the_commit_time() -> None:
    assert detect({"SOURCE_DATE_EPOCH": "1706745599"}, name="acme/shop").commit_time == 1706745599


def test_empty_variables_are_absent_ones() -> None:
    empty = dict.fromkeys([*ON_GITHUB, "SOURCE_DATE_EPOCH"], "")
    found = detect(empty, name="acme/shop")
    assert (found.owner, found.commit, found.release) == ("acme", None, 0)


def test_nobodys_project_names_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="/srv/shop is in no git repository") as caught:
        detect({})
    assert "--project owner/name" in caught.value.hint
    monkeypatch.setattr(git, "is_installed", lambda _env: False)
    with pytest.raises(UsageError, match="git is not installed"):
        detect({})
    assert detect(ON_GITHUB).version_source == "no tag: git is not installed"


@pytest.mark.parametrize(
    "name", ["", "shop", "acme/", "/shop", "a/b/c", "../shop", "acme/..", "./x", "a b/c", "-a/b", "ä/b", "a/b\n"]
)
def test_a_project_is_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"--project is {re.escape(repr(name))}") as caught:
        detect({}, name=name)
    assert "acme/shop" in caught.value.hint
    if name:
        with pytest.raises(UsageError, match="GITHUB_REPOSITORY"):
            detect({"GITHUB_REPOSITORY": name})


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "", "1 ", "0x1", "١", "9" * 12, "9" * 5000])
def test_a_release_is_an_unsigned_integer(text: str) -> None:
    with pytest.raises(UsageError, match=r"--package-release is .* unsigned integer"):
        detect({}, name="acme/shop", package_release=text)


@pytest.mark.parametrize("variable", ["GITHUB_RUN_NUMBER", "SOURCE_DATE_EPOCH", "GITHUB_SHA"])
def test_a_variable_with_nonsense_in_it_is_named(variable: str) -> None:
    with pytest.raises(UsageError, match=f"{variable} is 'HEAD'"):
        detect({variable: "HEAD"}, name="acme/shop")


@pytest.mark.parametrize(
    ("text", "near"),
    [("v1.2.3", "1.2.3"), ("1.2.3-rc.1", "1.2.3_rc1"), ("1.2.3+b", "1.2.3"), ("1.2.3-r4", "1.2.3"), ("", "1.2.3")],
)
def test_a_package_version_is_pkgver(text: str, near: str) -> None:
    with pytest.raises(UsageError, match="--package-version is") as caught:
        detect({}, name="acme/shop", package_version=text)
    assert caught.value.hint == f"give --package-version {near}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Laravel_POS", "laravel-pos"),
        ("acme.dev", "acme-dev"),
        ("shop", "shop"),
        (".github", "github"),
        ("a__b--c..d", "a-b-c-d"),
        ("---", "app"),
        ("東京", "app"),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert project.slug(name) == expected


@given(st.text(max_size=30))
def test_a_slug_is_always_a_package_name(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", project.slug(name))


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/shop.git",
        "https://github.com/acme/shop",
        "https://github.com/acme/shop/",
        "https://x-access-token:secret@github.com/acme/shop.git",
        "http://git.example:8080/acme/shop.git",
        "ssh://git@github.com/acme/shop.git",
        "ssh://git@github.com:2222/acme/shop.git",
        "git@github.com:acme/shop.git",
        "github.com:acme/shop",
        "git@github.com:/acme/shop.git",
        "gh:acme/shop",
        "https://gitlab.example/group/acme/shop.git",
    ],
)
def test_a_remote_names_owner_and_name(url: str) -> None:
    assert detection.from_remote(url) == ("acme", "shop")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/git/shop.git",
        "../shop",
        "./a:b/c",
        "file:///srv/git/shop.git",
        "https://github.com/",
        "host:shop",
        "x",
    ],
)
def test_a_path_on_this_machine_names_nobody(url: str) -> None:
    assert detection.from_remote(url) is None


@given(st.text(max_size=40), st.text(alphabet="ab/:@.~ ", max_size=20))
def test_no_remote_is_trouble(anything: str, url: str) -> None:
    for text in (anything, url):
        found = detection.from_remote(text)
        assert found is None or all(re.fullmatch(r"[A-Za-z0-9_.-]+", part) for part in found)

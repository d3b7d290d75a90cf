"""What `pakman repository` refuses before a bucket is asked anything, and which versions a rule lets go."""

from __future__ import annotations

from pathlib import Path

import pytest

from pakman import arguments, cli
from pakman.apk.index import Stanza
from pakman.channels import versions
from pakman.channels.pruning import Rule
from pakman.errors import UsageError
from tests.packages import key
from tests.stores import pem

BUCKET = ["--bucket", "s3://my-bucket"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, "ACTION"),
        ("show", 2, "invalid choice: 'show'"),
        ("list Stable", 2, "CHANNEL is 'Stable', which cannot be a channel's name"),
        ("verify ../keys", 2, "CHANNEL is '../keys', which cannot be a channel's name"),
        ("verify --key none.pub", 5, "the public key none.pub cannot be read"),
        ("promote edge", 2, "TO"),
        ("promote edge Stable", 2, "TO is 'Stable', which cannot be a channel's name"),
        ("promote Edge stable", 2, "FROM is 'Edge', which cannot be a channel's name"),
        ("promote edge edge", 2, "edge cannot be promoted to itself"),
        ("promote edge stable --package-version v1.2.3", 2, "--package-version is 'v1.2.3', which cannot be a version"),
        ("promote edge stable", 5, "changing channel stable needs the signing key"),
        ("rollback stable --to latest", 2, "--to is 'latest', which cannot be a version"),
        ("rollback stable", 5, "changing channel stable needs the signing key"),
        ("prune stable", 2, "prune needs to know what may go"),
        ("prune stable --keep 0", 2, "--keep is '0', but it should be a whole number from 1 to 999999999"),
        ("prune stable --keep some", 2, "--keep is 'some', but it should be a whole number"),
        (
            "prune stable --older-than 30",
            2,
            "--older-than is '30', but it should be a number of days or hours, of six digits",
        ),
        ("prune stable --older-than -1d", 2, "--older-than"),
        ("prune stable --keep 3", 5, "changing channel stable needs the signing key"),
        ("prune stable --keep 3 --signing-key none.rsa", 5, "the signing key none.rsa cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    words: str,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["repository", *words.split(), *(BUCKET if words else [])]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("pakman: error:") == 1


def test_prune_s_help_says_that_one_of_two_flags_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parser().parse_args(["repository", "prune", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "how many versions stay at least (with --older-than: 1 by default)" in said
    assert "one of the two flags is needed, or both" in said


def test_a_bucket_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PAKMAN_SIGNING_KEY", pem(key()).decode())
    assert cli.main(["repository", "list"]) == 2
    assert "--bucket" in capsys.readouterr().err


def stanza(version: str, name: str = "notes", application: str = "notes") -> Stanza:
    """An entry of an index."""
    return Stanza(f"C:Q1{'A' * 27}=\nP:{name}\nV:{version}\nA:x86_64\nS:1\no:{application}\n")


ENTRIES = [
    *(stanza(version) for version in ("1.9.0-r0", "1.10.0-r0", "1.10.0_rc1-r0", "1.8.0-r0")),
    stanza("1.8.0-r0", "notes-openrc"),
    stanza("3-r0", "shop", "shop"),
    stanza("1.0-r0", "shop", "shop"),
]
AGES = {"1.8.0-r0": 100, "1.9.0-r0": 200, "1.10.0_rc1-r0": 99, "1.10.0-r0": 5000, "1.0-r0": 50, "3-r0": 40}


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (Rule(keep=1), "notes-1.10.0_rc1 notes-1.8.0 notes-1.9.0 notes-openrc-1.8.0 shop-1.0"),
        (Rule(keep=3), "notes-1.8.0 notes-openrc-1.8.0"),
        (Rule(keep=4), ""),
        (Rule(older_than=100), "notes-1.8.0 notes-1.9.0 notes-openrc-1.8.0"),
        (Rule(keep=2, older_than=101), "notes-1.9.0"),
        (Rule(keep=3, older_than=100), "notes-1.8.0 notes-openrc-1.8.0"),
        (Rule(older_than=1000), ""),
    ],
)
def test_a_rule_says_which_versions_of_an_application_go(rule: Rule, gone: str) -> None:
    found = rule.old(ENTRIES, lambda each: AGES[each.version])
    assert sorted(f"{each.name}-{each.version.removesuffix('-r0')}" for each in found) == gone.split()


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("1.2.3-r2", "1.2.3-r2"),
        ("1.2.3", "1.2.3-r10"),
        ("1.2.3_rc1", "1.2.3_rc1-r0"),
        ("1.2", None),
        ("1.2.3-r3", None),
    ],
)
def test_a_version_may_be_named_without_its_release(wanted: str, meant: str | None) -> None:
    assert versions.meant(["1.2.3-r2", "1.2.3-r10", "1.2.3-r9", "1.2.3_rc1-r0"], wanted) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [("v1.2.3-rc.1", "1.2.3_rc1"), ("1.1.0-0", "1.1.0-r0"), ("1.1.0-12", "1.1.0-r12"), ("1.2.3-", "1.2.3")],
)
def test_a_version_that_is_nearly_one_is_answered_with_what_is_meant(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        versions.refuse_no_version("--to", text)
    assert caught.value.hint == f"is it {meant}?"


def test_a_sentence_names_only_so_many() -> None:
    assert versions.some(["a", "b"]) == "a, b"
    assert versions.some([str(each) for each in range(10)], "; ").endswith("; 9")
    assert versions.some([str(each) for each in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2 more"

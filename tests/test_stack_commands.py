"""`pakman stack` as a user sees it, and what a build makes of --stack and of the settings."""

from __future__ import annotations

import datetime
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from pakman import arguments, cli, stack, stack_commands, stack_report
from pakman.errors import UsageError
from pakman.manifest import Manifest

TODAY = datetime.date(2026, 11, 21)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own that the program runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(text: str) -> None:
    Path(".pakman.toml").write_text(text)


def pakman(capsys: Capture, *argv: str, code: int = 0) -> str:
    assert cli.main(["stack", *argv]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_the_list_marks_the_default_and_what_has_ended() -> None:
    lines = stack_report.listed(stack.STACKS, TODAY).splitlines()
    assert [line for line in lines if line.startswith("*")] == ["* alpine/3.24  v3.24  supported until 2028-05-01"]
    assert "  alpine/3.20  v3.20  ended on 2026-04-01" in lines
    assert lines[-1] == "  alpine/edge  edge   never ends: what the next release will be, changing every day"


def test_the_list_for_programs(capsys: Capture) -> None:
    settings('[stacks."acme/base"]\nversion = "3.14"')
    listed = json.loads(pakman(capsys, "list", "--format", "json"))
    assert [each["name"] for each in listed][-3:] == ["alpine/3.24", "alpine/edge", "acme/base"]
    assert listed[-2] == {
        "name": "alpine/edge", "version": "edge", "branch": "edge", "end_of_life": None, "supported": True,
        "default": False,
    }  # fmt: skip
    assert listed[-1] == {
        "name": "acme/base", "version": "3.14", "branch": "v3.14", "end_of_life": "2023-05-01", "supported": False,
        "default": False,
    }  # fmt: skip
    assert sum(each["default"] for each in listed) == 1
    assert "acme/base" in pakman(capsys, "list", "--format", "")


def test_inspect_shows_the_order_and_who_said_so(capsys: Capture) -> None:
    settings('apk-mirrors = "https://m.example/alpine"\nimage-registries = ["r.example/x"]')
    said = pakman(
        capsys, "inspect", "v3.14", "--mirror", "https://f.example/", "--build-image", "mine:1", "--bucket", "s3://abc"
    )
    lines = said.splitlines()
    assert lines[:2] == ["alpine/3.14", "  Alpine 3.14, branch v3.14: ended on 2023-05-01"]
    images = lines.index("build images, in the order they are tried:")
    assert lines[images + 1 : images + 5] == [
        "  1. mine:1  (--build-image)",
        "  2. r.example/x/alpine:3.14  (image-registries in .pakman.toml)",
        "  3. public.ecr.aws/docker/library/alpine:3.14  (pakman, first because the bucket is there, too)",
        "  4. docker.io/library/alpine:3.14  (pakman)",
    ]
    repositories = lines.index("package repositories:")
    assert lines[repositories + 1 : repositories + 7] == [
        "  1. https://f.example/v3.14/main  (--mirror)",
        "     https://f.example/v3.14/community",
        "  2. https://m.example/alpine/v3.14/main  (apk-mirrors in .pakman.toml)",
        "     https://m.example/alpine/v3.14/community",
        "  3. what the build root's own /etc/apk/repositories says  (pakman)",
        "  4. https://dl-cdn.alpinelinux.org/alpine/v3.14/main  (pakman)",
    ]


def test_inspect_for_programs(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://storage.googleapis.com")
    said = json.loads(pakman(capsys, "inspect", "edge", "--bucket", "s3://abc", "--format", "json"))
    assert said["name"] == "alpine/edge"
    assert said["build_images"][0] == {
        "image": "mirror.gcr.io/library/alpine:edge", "named_by": "pakman", "near": True,
    }  # fmt: skip
    assert said["run_images"] == said["build_images"]
    assert said["repositories"][0] == {"lines": [], "named_by": "pakman", "near": False}
    assert said["repositories"][1]["lines"][0] == "https://dl-cdn.alpinelinux.org/alpine/edge/main"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["inspect", "3.99"], "there is no stack '3.99'"),
        (["inspect", "3.24", "--mirror", "mirror.example"], "--mirror 'mirror.example' is no URL"),
        (["inspect", "3.24", "--build-image", "--network=host"], "expected one argument"),
        (["inspect", "3.24", "--build-image=--network=host"], "--build-image '--network=host' is no image's reference"),
        ([], "the following arguments are required: ACTION"),
        (["inspect"], "the following arguments are required: STACK"),
        (["lst"], "invalid choice: 'lst'"),
    ],
)
def test_what_cannot_be_inspected(capsys: Capture, argv: list[str], said: str) -> None:
    assert said in pakman(capsys, *argv, code=2)


def test_settings_that_are_wrong_end_every_command_that_reads_them(capsys: Capture) -> None:
    settings("mirrors = []")
    assert "apk-mirrors" in pakman(capsys, "list", code=2)
    Path("instellar.yml").write_text("stack: alpine/edge\nbuild: {destinations: [dist]}\n")
    assert cli.main(["validate"]) == 2
    assert ".pakman.toml:1: mirrors is not known" in capsys.readouterr().err


def test_validate_knows_a_stack_of_one_s_own(capsys: Capture) -> None:
    Path("instellar.yml").write_text("stack: acme/base\nbuild: {destinations: [dist]}\n")
    assert cli.main(["validate"]) == 3
    settings('[stacks."acme/base"]\nversion = "edge"')
    assert cli.main(["validate"]) == 0
    assert "is valid" in capsys.readouterr().out


ENDED = "alpine/3.20, which has had no security updates since 2026-04-01"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (None, "there is no instellar.yml in this folder; in one, write `stack: alpine/3.24`"),
        ("", "instellar.yml names none, so it is taken until there is a newer one; write `stack: alpine/3.24` to stay"),
        ("alpine/3.99", "instellar.yml says alpine/3.99, which pakman does not know; write `stack: alpine/3.24`"),
        ("3.24", "instellar.yml says so already"),
        ("3.20", f"instellar.yml says {ENDED}; write `stack: alpine/3.24`"),
        (
            "3.23",
            "instellar.yml says alpine/3.23, which is supported until 2027-11-01: there is time until then; write",
        ),
        ("edge", "instellar.yml says alpine/edge, which changes every day; write `stack: alpine/3.24` for"),
    ],
)
def test_suggest_says_which_why_and_what_the_manifest_says(said: str | None, advice: str) -> None:
    found = stack.find(said) if said else None
    text = stack_report.suggested(TODAY, manifest="instellar.yml", said=found or said)
    first, second = text.splitlines()
    assert first == "alpine/3.24: the newest that Alpine supports, which is supported until 2028-05-01"
    assert second.startswith(advice)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no instellar.yml"),
        ("stack: alpine/3.14\n", "instellar.yml says alpine/3.14, which has had no security"),
        ("build: {}\n", "instellar.yml names none"),
        ("stack: [a]\n", "instellar.yml says ['a'], which pakman does not know"),
        ("\tnot: yaml", "instellar.yml names none"),
        ("- list", "instellar.yml names none"),
        ("stack: acme/base\n", "instellar.yml says acme/base, which has had no security"),
    ],
)
def test_suggest_reads_the_manifest_of_this_folder(capsys: Capture, content: str | None, said: str) -> None:
    settings('[stacks."acme/base"]\nversion = "3.20"')
    if content is not None:
        Path("instellar.yml").write_text(content)
    assert said in pakman(capsys, "suggest")


def test_once_all_have_ended_that_is_said() -> None:
    text = stack_report.suggested(datetime.date(2040, 1, 1), manifest="instellar.yml", said="")
    assert text.startswith("alpine/3.24: the newest that this pakman knows, which has had no security updates since")


def built_for(said: str | None, *flags: str, command: str = "build") -> tuple[Manifest, stack.Stack, list[str]]:
    """Return what a build is for: the manifest and stack that the story gets, and what was said about it."""
    argv = [command, *flags, *(["--output", "out"] if command == "build" else [])]
    args: Namespace = arguments.parser().parse_args(argv)
    notices: list[str] = []
    found = stack_commands.stack_to_build_for(args, {}, Manifest(stack=said), TODAY, on_notice=notices.append)
    return *found, notices


def test_the_stack_that_is_built_for() -> None:
    assert built_for("alpine/3.22") == (Manifest(stack="alpine/3.22"), stack.find("3.22"), [])
    assert built_for(None) == (Manifest(), stack.find("3.24"), [])
    for flag in ("3.20", "v3.20", "alpine/3.20"):
        assert built_for(None, "--stack", flag) == (Manifest(stack="alpine/3.20"), stack.find("3.20"), [])
    again = built_for("alpine/3.22", "--stack", "3.20")
    assert again[:2] == (Manifest(stack="alpine/3.20"), stack.find("3.20"))
    assert again[2] == ["built for alpine/3.20, as --stack says; the manifest says alpine/3.22"]
    with pytest.raises(UsageError, match=r"there is no stack '3\.99'"):
        built_for(None, "--stack", "3.99")


def test_flags_and_settings_reach_the_build() -> None:
    settings(
        'apk-mirrors = "https://m.example/alpine"\n[stacks."acme/base"]\nversion = "3.23"\nbuild-image = "acme/base"'
    )
    _, found, _ = built_for("acme/base", "--mirror", "https://f.example/alpine/", "--build-image", "b.example/x")
    assert (found.name, found.version) == ("acme/base", "3.23")
    assert found.build_images == ("b.example/x", "acme/base")
    firsts = [lines[:1] for lines in found.repositories[:3]]
    assert firsts == [("https://f.example/alpine/v3.23/main",), ("https://m.example/alpine/v3.23/main",), ()]


def test_the_bucket_s_provider_comes_first_where_there_is_a_bucket() -> None:
    def first(*flags: str) -> Any:
        return built_for("alpine/3.23", *flags, command="run")[1].build_images[0]

    assert first() == "docker.io/library/alpine:3.23"
    assert first("--bucket", "s3://abc") == "public.ecr.aws/docker/library/alpine:3.23"
    google = ["--endpoint-url", "https://storage.googleapis.com"]
    assert first("--bucket", "s3://abc", *google) == "mirror.gcr.io/library/alpine:3.23"

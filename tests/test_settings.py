"""What stands in `.pakman.toml`, where it is found, and what is said about one that is wrong."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pakman import manifest, settings, stack
from pakman.errors import UsageError
from pakman.settings import Settings, StackSettings

EVERYTHING = """\
apk-mirrors = ["https://mirror.example/alpine/"]
image-registries = "registry.example:5000/library"

[stacks."3.23"]
build-image = "registry.example/alpine@sha256:%s"
run-image = ["one.example/alpine:3.23", "alpine"]
repositories = ["https://mirror.example/main", "@own http://packages.example:8080/own"]

[stacks."acme/base"]
version = "v3.22"
build-image = "acme/base"
repositories = [["https://a.example/main"], ["https://b.example/main", "https://b.example/more"]]
""" % ("0a" * 32)


def read(folder: Path, text: str) -> Settings:
    (folder / settings.FILE).write_text(text)
    return settings.read(folder)


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    found = read(tmp_path, EVERYTHING)
    assert found.apk_mirrors == ("https://mirror.example/alpine",)
    assert found.image_registries == ("registry.example:5000/library",)
    assert found.by_stack == {
        "alpine/3.23": StackSettings(
            (f"registry.example/alpine@sha256:{'0a' * 32}",),
            ("one.example/alpine:3.23", "alpine"),
            (("https://mirror.example/main", "@own http://packages.example:8080/own"),),
        ),
        "acme/base": StackSettings(
            ("acme/base",),
            (),
            (("https://a.example/main",), ("https://b.example/main", "https://b.example/more")),
        ),
    }


def test_a_stack_of_one_s_own_is_alpine_by_another_name(tmp_path: Path) -> None:
    *known, own = read(tmp_path, EVERYTHING).stacks
    assert tuple(known) == stack.STACKS
    base = stack.find("3.22")
    assert base is not None
    assert own == base._replace(name="acme/base")


def test_a_manifest_may_name_it(tmp_path: Path) -> None:
    file = tmp_path / "instellar.yml"
    file.write_text("stack: acme/base\nbuild: {destinations: [dist]}\n")
    known = read(tmp_path, '[stacks."acme/base"]\nversion = "3.20"\n').stacks
    today = datetime.date(2026, 11, 21)
    reading = manifest.read(file, repository=None, today=today, stacks=known)
    assert reading.manifest is not None
    assert reading.manifest.stack == "acme/base"
    assert [problem.message for problem in reading.problems] == [
        "acme/base has had no security updates since 2026-04-01"
    ]
    (problem,) = manifest.read(file, repository=None, today=today, stacks=stack.STACKS).problems
    assert problem.code == "unknown-stack"
    file.write_text("stack: acme/bass\nbuild: {destinations: [dist]}\n")
    (problem,) = manifest.read(file, repository=None, today=today, stacks=known).problems
    assert problem.hint == "pakman knows alpine/3.14 to alpine/3.24, alpine/edge, and acme/base"


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    assert settings.read(tmp_path) == Settings()
    assert read(tmp_path, "") == Settings()


@pytest.mark.parametrize(
    ("files", "git", "found"),
    [
        (["top", "top/apps/shop"], "top", "top/apps/shop"),
        (["top", ""], "top", "top"),
        (["top/apps"], "top", "top/apps"),
        ([""], "top", None),
        (["top"], None, None),
        (["top/apps/shop"], None, "top/apps/shop"),
    ],
)
def test_the_nearest_holds_up_to_the_top_of_the_repository(
    tmp_path: Path, files: list[str], git: str | None, found: str | None
) -> None:
    (tmp_path / "top/apps/shop").mkdir(parents=True)
    if git is not None:
        # A file, as in a worktree, is as good as a directory.
        (tmp_path / git / ".git").touch()
    for name in files:
        (tmp_path / name / settings.FILE).touch()
    expected = None if found is None else tmp_path / found / settings.FILE
    assert settings.find_file(tmp_path / "top/apps/shop") == expected


STACK = '[stacks."alpine/3.24"]\n'

WRONG = [
    ("apk_mirrors = []", ":1: apk_mirrors is not known", "did you mean apk-mirrors?"),
    ("\ncolour = 1", ":2: colour is not known", "known here are apk-mirrors, image-registries, stacks"),
    (STACK + "\nbuild_image = 'a'", ':3: stacks."alpine/3.24".build_image is not known', "build-image?"),
    (STACK + "version = '3.24'", ':2: stacks."alpine/3.24".version is not known', "known here are"),
    ("apk-mirrors = 1", ":1: apk-mirrors must be a text or a list", "write apk-mirrors ="),
    ("apk-mirrors = ['https://a.example', 1]", ":1: apk-mirrors must be a text or a list", "write"),
    ("apk-mirrors = ['ftp://a.example']", ":1: apk-mirrors has 'ftp://a.example', which is no URL", "https://"),
    ("apk-mirrors = ['https://a.example/v3.24/main']", "which names one branch of Alpine", "before /v3.24/main"),
    ("apk-mirrors = ['https://me:pw@a.example/']", "a password in it", "asks for none"),
    ("image-registries = ['acme']", "has 'acme', which is no registry", "registry.example.com/library"),
    ("image-registries = ['https://a.example']", "which is no registry", "before /alpine:3.24"),
    ("stacks = 1", ":1: stacks must be a table", '[stacks."alpine/3.24"]'),
    ("[stacks]\nbase = 1", ":2: stacks.base is no stack's name", "acme/base"),
    ('[stacks]\n"acme/base" = 1', ':2: stacks."acme/base" must be a table', '[stacks."acme/base"]'),
    ('[stacks."alpine/3.99"]', ':1: stacks."alpine/3.99" is no stack\'s name', "alpine/3.24 and the like"),
    ('[stacks."acme/base"]', ':1: stacks."acme/base" has no version', 'version = "3.24"'),
    ('[stacks."acme/base"]\nversion = 3.2', ':2: stacks."acme/base".version is no Alpine version', "in quotes"),
    ('[stacks."acme/base"]\nversion = "3.99"', "is no Alpine version that pakman knows", "in quotes"),
    (STACK + '[stacks."3.24"]', ':2: stacks."3.24" is alpine/3.24 a second time', "one table"),
    (STACK + "build-image = 'Alpine:3'", "has 'Alpine:3', which is no image's reference", "in lower case"),
    (STACK + "run-image = '--privileged'", "which is no image's reference", "REGISTRY/NAME:TAG"),
    (STACK + "run-image = 'a@sha256:12'", "which is no image's reference", "sha256:DIGEST"),
    (STACK + "repositories = []", ".repositories names no repository", "take the key out"),
    (STACK + "repositories = [['https://a.example'], []]", ".repositories names no repository", ""),
    (STACK + "repositories = ['/srv/packages']", "which is no URL", ""),
    (STACK + 'repositories = ["https://a.example/\\nhttps://b.example"]', "which is no URL", ""),
    ("apk-mirrors = [", "is not TOML: ", 'key = "value"'),
    ("a = " + "[" * 5000, "is not TOML: a value is too large", "key"),
    ("a = " + "1" * 5000, "is not TOML: a value is too large", "key"),
    ("a = '" + "x" * 70_000 + "'", "cannot be read: it is larger than 64 KiB", "README"),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG, ids=[case[0][:50] for case in WRONG])
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert str(tmp_path / settings.FILE) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / settings.FILE).write_bytes(b"a = '\xff'")
    with pytest.raises(UsageError, match="cannot be read: it is not UTF-8"):
        settings.read(tmp_path)
    (tmp_path / settings.FILE).unlink()
    (tmp_path / settings.FILE).mkdir()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        settings.read(tmp_path)

"""The order in which a stack's images and repositories are tried, and who named each."""

from __future__ import annotations

import pytest

from pakman import mirrors, references, stack
from pakman.settings import Settings, StackSettings

BASE = stack.find("3.23") or stack.STACKS[0]
OWN = BASE._replace(name="acme/base")


def images(**arguments: object) -> list[tuple[str, str]]:
    found = mirrors.choices(**{"wanted": BASE, "settings": Settings(), **arguments})  # type: ignore[arg-type]
    assert found.stack.build_images == tuple(each.value for each in found.build_images)
    return [(each.value, each.named_by) for each in found.build_images]


def hosts(**arguments: object) -> list[str]:
    found = mirrors.choices(**{"wanted": BASE, "settings": Settings(), **arguments})  # type: ignore[arg-type]
    assert found.stack.repositories == tuple(each.value for each in found.repositories)
    return [each.value[0].split("/")[2] if each.value else "own" for each in found.repositories]


KNOWN = [f"{registry}/alpine:3.23" for registry in stack.IMAGE_REGISTRIES]


def test_what_pakman_knows_is_the_stack_itself() -> None:
    assert mirrors.choices(BASE, Settings()).stack == BASE
    assert images() == [(each, "pakman") for each in KNOWN]


def test_flags_come_first_then_settings_then_what_pakman_knows() -> None:
    settings = Settings(("https://s.example/alpine",), ("r.example/library",))
    assert images(settings=settings, build_images=["b.example/x", "a.example/x"]) == [
        ("b.example/x", "--build-image"),
        ("a.example/x", "--build-image"),
        ("r.example/library/alpine:3.23", "image-registries in .pakman.toml"),
        *((each, "pakman") for each in KNOWN),
    ]
    found = hosts(settings=settings, mirrors=["https://f.example/alpine"])
    assert found[:4] == ["f.example", "s.example", "own", "dl-cdn.alpinelinux.org"]
    (first, *_) = mirrors.choices(BASE, settings, mirrors=["https://f.example/a"]).repositories
    assert first.value == ("https://f.example/a/v3.23/main", "https://f.example/a/v3.23/community")


@pytest.mark.parametrize("wanted", [BASE, OWN])
def test_what_the_settings_say_about_one_stack_is_instead_of_the_others(wanted: stack.Stack) -> None:
    own = StackSettings(("b.example/x",), ("r.example/x",), (("https://p.example/main",),))
    settings = Settings(("https://s.example/alpine",), ("r.example/library",), {wanted.name: own})
    found = mirrors.choices(wanted, settings, mirrors=["https://f.example"], build_images=["f.example/x"]).stack
    assert found.name == wanted.name
    assert found.build_images == ("f.example/x", "b.example/x")
    assert found.run_images == ("r.example/x",)
    assert [lines[0] for lines in found.repositories] == ["https://f.example/v3.23/main", "https://p.example/main"]
    another = stack.find("3.22")
    assert another is not None
    assert mirrors.choices(another, Settings(by_stack={wanted.name: own})).stack == another


@pytest.mark.parametrize(
    ("endpoint", "first"),
    [
        (None, "public.ecr.aws"),
        ("https://s3.eu-central-1.amazonaws.com", "public.ecr.aws"),
        ("s3.dualstack.us-east-1.amazonaws.com", "public.ecr.aws"),
        ("https://storage.googleapis.com", "mirror.gcr.io"),
        ("https://s3.docker.io:9000", "docker.io"),
        ("http://127.0.0.1:9000", "docker.io"),
        ("https://s3.example.com", "docker.io"),
    ],
)
def test_the_image_with_the_bucket_s_provider_comes_first(endpoint: str | None, first: str) -> None:
    found = images(target=mirrors.bucket_host(endpoint))
    assert found[0][0].startswith(f"{first}/")
    assert sorted(value for value, _ in found) == sorted(KNOWN)


def test_but_not_before_what_was_named_by_somebody_with_more_to_say() -> None:
    settings = Settings(("https://a.example", "https://dl.shop.example"), ("r.example/x", "registry.shop.example/x"))
    found = images(settings=settings, build_images=["mine.example/x", "mine.shop.example/x"], target="s3.shop.example")
    assert [value.split("/")[0] for value, _ in found] == [
        "mine.example", "mine.shop.example", "registry.shop.example", "r.example",
        *(each.split("/")[0] for each in KNOWN),
    ]  # fmt: skip
    assert hosts(settings=settings, target="s3.shop.example")[:3] == ["dl.shop.example", "a.example", "own"]


def test_nothing_is_tried_twice() -> None:
    settings = Settings((stack.APK_MIRRORS[0],), (stack.IMAGE_REGISTRIES[1],))
    assert [value for value, _ in images(settings=settings, build_images=[KNOWN[2]])] == [KNOWN[2], KNOWN[1], KNOWN[0]]
    assert hosts(settings=settings, mirrors=[stack.APK_MIRRORS[0]]).count("dl-cdn.alpinelinux.org") == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("registry.shop.example", "s3.shop.example:9000", True),
        ("a.co.uk", "b.co.uk", False),
        ("r.shop.co.uk", "s3.shop.co.uk", True),
        ("SHOP.example", "r.shop.EXAMPLE", True),
        ("10.0.0.1:5000", "10.0.0.1:9000", True),
        ("10.0.0.1", "11.0.0.1", False),
        ("[::1]:5000", "[::1]", True),
        ("europe-docker.pkg.dev", "storage.googleapis.com", True),
        ("1234.dkr.ecr.eu-west-1.amazonaws.com", "s3.amazonaws.com", True),
        ("localhost:5000", "localhost", True),
    ],
)
def test_whose_a_server_is(one: str, other: str, same: bool) -> None:
    assert (mirrors.provider(one) == mirrors.provider(other)) is same


@pytest.mark.parametrize(
    "image",
    [
        "alpine",
        "alpine:3.23",
        "acme/base",
        "localhost/x",
        "localhost:5000/a/b_c/d--e:V1.0",
        "docker.io/library/alpine:edge",
        "a.example/x@sha256:" + "0" * 64,
        "a.example/x:1@sha256:" + "f" * 64,
    ],
)
def test_references_of_images(image: str) -> None:
    assert references.image_problem(image) is None


@pytest.mark.parametrize(
    "image",
    [
        "",
        "-v",
        "--privileged",
        "Alpine",
        "alpine:",
        "alpine:3 23",
        "a//b",
        "/a",
        "a/",
        "a@sha256:00",
        "a;b",
        "$(x)",
        "a\n",
        "a:b:c/d",
        "https://a.example/x",
        "a" * 300,
    ],
)
def test_what_is_no_image(image: str) -> None:
    assert references.image_problem(image) is not None


@pytest.mark.parametrize(
    "url", ["https://mirror.example/alpine", "http://10.0.0.1:8080", "http://[::1]:80/a/b~c/", "https://m.example/"]
)
def test_mirrors(url: str) -> None:
    assert references.mirror_problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mirror.example/alpine",
        "https://",
        "https://:80",
        "https://m.example:99999/",
        "https://m.example/a b",
        "https://m.example/$(x)",
        "https://m.example/?a",
        "https://m.example/#a",
        "https://u:p@m.example/",
        "-x",
        "/srv/alpine",
        "https://m.example/\n",
        "https://[x/",
        "https://m.example/alpine/edge",
        "https://m.example/alpine/v3.23/community/",
    ],
)
def test_what_is_no_mirror(url: str) -> None:
    assert references.mirror_problem(url) is not None

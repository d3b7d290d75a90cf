from __future__ import annotations

import datetime

import pytest

from pakman import stack


@pytest.mark.parametrize("text", ["alpine/3.20", "3.20", "v3.20", "alpine/v3.20"])
def test_a_stack_is_found_by_any_of_its_names(text: str) -> None:
    found = stack.find(text)
    assert found is not None
    assert found[:4] == ("alpine/3.20", "3.20", "v3.20", datetime.date(2026, 4, 1))


@pytest.mark.parametrize(
    "text", ["", "alpine/", "alpine", "alpine/3.2", "3.99", "debian/12", "alpine/3.20.1", "Alpine/3.20"]
)
def test_anything_else_is_none(text: str) -> None:
    assert stack.find(text) is None


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("alpine:3.23", "alpine/3.23"),
        ("Alpine 3.23", "alpine/3.23"),
        ("alpine/3.23.6", "alpine/3.23"),
        ("3.23.6", "alpine/3.23"),
        ("alpine:edge", "alpine/edge"),
    ],
)
def test_a_stack_that_is_nearly_named_is_what_the_hint_asks_for(text: str, nearest: str) -> None:
    assert stack.find(text) is None
    assert stack.hint(text) == f"did you mean {nearest}? pakman knows alpine/3.14 to alpine/3.24, and alpine/edge"


def test_a_first_manifest_is_for_what_builds_anywhere_until_that_ends() -> None:
    end = stack.find(stack.EVERYWHERE)
    assert end is not None
    assert end.end_of_life is not None
    last = end.end_of_life - datetime.timedelta(days=1)
    assert stack.to_begin_with(last).name == stack.EVERYWHERE
    assert stack.to_begin_with(end.end_of_life) == stack.newest_supported(end.end_of_life) != end


@pytest.mark.parametrize("text", ["alpine/3.99", "debian/12", "acme/base-3.23", "latest", ""])
def test_another_name_is_answered_with_those_that_there_are(text: str) -> None:
    assert stack.hint(text) == "pakman knows alpine/3.14 to alpine/3.24, and alpine/edge"


def test_edge_never_ends_and_is_never_taken_by_itself() -> None:
    edge = stack.find("alpine/edge")
    assert edge is not None
    assert edge[:4] == ("alpine/edge", "edge", "edge", None)
    assert edge.supported(datetime.date(2100, 1, 1))
    assert edge not in stack.supported(datetime.date(2026, 11, 21))


@pytest.mark.parametrize(
    ("day", "newest", "oldest"),
    [("2026-03-31", "3.24", "3.20"), ("2026-04-01", "3.24", "3.21"), ("2026-11-21", "3.24", "3.22")],
)
def test_support_ends_on_its_day(day: str, newest: str, oldest: str) -> None:
    today = datetime.date.fromisoformat(day)
    assert stack.supported(today)[0].version == oldest
    assert stack.newest_supported(today).version == newest


def test_once_all_have_ended_the_newest_known_is_taken() -> None:
    assert stack.newest_supported(datetime.date(2040, 1, 1)).version == "3.24"


def test_every_corner_of_the_format_s_history_is_known() -> None:
    assert [known.version for known in stack.STACKS] == [*(f"3.{minor}" for minor in range(14, 25)), "edge"]


def test_images_come_from_docker_hub_and_from_registries_that_carry_its_official_images() -> None:
    found = stack.find("3.20")
    assert found is not None
    assert found.build_images == found.run_images
    assert found.build_images == (
        "docker.io/library/alpine:3.20",
        "public.ecr.aws/docker/library/alpine:3.20",
        "mirror.gcr.io/library/alpine:3.20",
    )


@pytest.mark.parametrize(("name", "branch"), [("3.20", "v3.20"), ("edge", "edge")])
def test_repositories_are_the_root_s_own_and_then_whole_sets_on_other_mirrors(name: str, branch: str) -> None:
    found = stack.find(name)
    assert found is not None
    own, first, *others = found.repositories
    assert own == stack.ROOTS_OWN
    assert first == tuple(f"https://dl-cdn.alpinelinux.org/alpine/{branch}/{part}" for part in ("main", "community"))
    assert others
    for main, community in others:
        assert main.startswith("https://")
        assert main.endswith(f"/{branch}/main")
        assert community == main.replace("/main", "/community")

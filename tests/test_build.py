"""Which root is right for which stack; the builds themselves are in tests/integration/test_build.py."""

from __future__ import annotations

from typing import cast

import pytest

from pakman import build, stack
from pakman.buildroots import BuildRoot
from pakman.errors import BuildError


class Root:
    def __init__(self, release: str) -> None:
        self.release = release


def refuse(release: str, wanted: str, *, named: bool = True) -> None:
    found = stack.find(wanted)
    assert found is not None
    build._refuse_another_release(cast("BuildRoot", Root(release)), found, named=named)


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("3.23.6", "alpine/3.23"),
        ("3.23", "alpine/3.23"),
        ("3.23.0_rc1", "alpine/3.23"),
        ("3.24_alpha20260127", "alpine/edge"),
        ("3.24.0_alpha20260127", "alpine/edge"),
    ],
)
def test_a_root_of_the_stack(release: str, wanted: str) -> None:
    refuse(release, wanted)


@pytest.mark.parametrize(
    ("release", "wanted", "own"),
    [
        ("3.23.6", "alpine/3.24", "alpine/3.23"),
        ("3.2.3", "alpine/3.23", "alpine/3.2"),
        ("3.23.6", "alpine/edge", "alpine/3.23"),
        ("3.24.0_alpha20260127", "alpine/3.24", "alpine/edge"),
    ],
)
def test_a_root_of_another_stack(release: str, wanted: str, own: str) -> None:
    with pytest.raises(BuildError, match=f"stack is {wanted}, but the build root is Alpine {release}") as caught:
        refuse(release, wanted)
    assert f"`stack: {own}`" in caught.value.hint
    with pytest.raises(BuildError, match=f"names no stack, {wanted} is meant"):
        refuse(release, wanted, named=False)

"""What a build root says of itself: whoever made its image may have it say anything."""

from __future__ import annotations

import pytest

from pakman.buildroots import set_up
from pakman.errors import BuildError


@pytest.mark.parametrize(
    ("said", "has_abuild"),
    [
        (["3.23.6", "x86_64", "59979", "59979", "/usr/bin/abuild"], True),
        (["chatter", "3.24.0_alpha20260127", "aarch64", "1", "2", "-"], False),
    ],
)
def test_the_last_five_lines_are_taken(said: list[str], has_abuild: bool) -> None:
    ready = set_up.read(said, 0, hint="")
    assert [ready.release, ready.arch, str(ready.uid), str(ready.gid)] == said[-5:-1]
    assert ready.has_abuild == has_abuild


@pytest.mark.parametrize(
    "said",
    [
        ["3.23.6", "../../../home", "1", "1", "-"],
        ["3.23.6", "..", "1", "1", "-"],
        ["3.23.6", "", "1", "1", "-"],
        ["3.23.6::error::x", "x86_64", "1", "1", "-"],
        ["../3.23", "x86_64", "1", "1", "-"],
        ["3.23.6", "x86_64", "a", "1", "-"],
        ["3.23.6", "x86_64", "1", "-1", "-"],
        ["3.23.6", "x86_64", "1", "1", "?"],
    ],
)
def test_what_no_root_is_names_no_file_and_nobody_out_here(said: list[str]) -> None:
    with pytest.raises(BuildError, match="some of that cannot be") as caught:
        set_up.read(said, 0, hint="is it Alpine?")
    assert caught.value.hint == "is it Alpine?"

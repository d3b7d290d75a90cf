"""What a run leaves for its reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from pakman import outputs
from pakman.publish import Publication
from tests.repositories import repository

PUBLICATION = Publication("deployments/x", "https://s3.example/x", "keys/y", "https://s3.example/y", (), ())
APK_ADD = [
    "wget -P /etc/apk/keys https://s3.example/y",
    "echo https://s3.example/x >> /etc/apk/repositories",
    "apk add notes",
]


@pytest.mark.parametrize(
    ("packages", "more"),
    [(["notes"], []), (["notes", "notes-openrc"], ["rc-service notes start"])],
    ids=["static", "service"],
)
def test_how_to_install_ends_with_the_start_of_what_can_be_started(
    packages: list[str], more: list[str], tmp_path: Path
) -> None:
    built = repository(tmp_path, dict.fromkeys(packages, b"any"))
    assert outputs.how_to_install(built, PUBLICATION) == [*APK_ADD, *more]

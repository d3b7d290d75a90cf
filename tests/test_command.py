"""What needs no program: how commands and their ends are told."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

import pytest

from pakman import command


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (2, "exit status 2"),
        (128, "exit status 128"),
        (-9, "killed by SIGKILL"),
        (137, "killed by SIGKILL"),
        (143, "killed by SIGTERM"),
        (255, "exit status 255"),
        (-34, "killed by SIGRTMIN"),
        (161, "exit status 161"),
    ],
)
def test_an_exit_status_in_words(status: int, words: str) -> None:
    assert command.how_it_ended(status) == words


def test_a_command_is_shown_as_one_would_type_it() -> None:
    assert command.shown(["apk", "add", "curl>8", "a b", "$x"]) == "apk add 'curl>8' 'a b' '$x'"


def test_a_program_is_found_on_the_given_path_first(tmp_path: Path) -> None:
    program = tmp_path / "sh"
    program.touch(0o755)
    assert command.which("sh", {"PATH": str(tmp_path)}) == str(program)
    assert command.which("sh", {}) not in (None, str(program))
    assert command.which("no such program", {}) is None


@pytest.mark.parametrize("path", [None, "", ":/usr/bin", ".", "bin::"])
def test_a_program_in_the_current_folder_is_not_found(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "mine", tmp_path / "bin/mine"):
        place.parent.mkdir(exist_ok=True)
        place.touch(0o755)
    assert command.which("mine", {} if path is None else {"PATH": path}) is None


def test_a_pipe_is_filled_while_it_is_read() -> None:
    content = os.urandom(1_000_000)
    with command.fed(lambda pipe: _write_all(pipe, content)) as stream:
        assert stream.read() == content


def test_what_fills_a_pipe_may_fail() -> None:
    def fail(pipe: IO[bytes]) -> None:
        pipe.write(b"x")
        raise io.UnsupportedOperation("broken")

    with pytest.raises(io.UnsupportedOperation, match="broken"), command.fed(fail) as stream:
        assert stream.read() == b"x"


def test_who_reads_a_pipe_may_stop_early() -> None:
    with command.fed(lambda pipe: _write_all(pipe, bytes(10_000_000))) as stream:
        assert stream.read(10) == bytes(10)
        stream.close()


def _write_all(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(content)

"""A package's tree: what is listed, what is refused, what is never followed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pakman.apk import tar
from pakman.apk.tree import Entry, Tree, _capability
from pakman.errors import BuildError


def entries(root: Path) -> list[Entry]:
    with Tree(root) as tree:
        return tree.entries()


def test_nothing_is_given_away_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "tree/folder").mkdir(parents=True)
    (tmp_path / "tree/folder/file").touch()
    (tmp_path / "tree/link").symlink_to("/nowhere")
    own = os.getuid(), os.getgid()
    with Tree(tmp_path / "tree") as tree:
        folder, file, link = tree.entries()
        tree.give(link, *own)
        (tmp_path / "tree/folder").rename(tmp_path / "folder")
        (tmp_path / "tree/folder").symlink_to(tmp_path / "folder")
        tree.give(folder, *own)
    with Tree(tmp_path / "tree") as tree, pytest.raises(BuildError, match="folder/file in the package's tree cannot"):
        tree.give(file, *own)


def test_everything_is_listed_with_directories_first(tmp_path: Path) -> None:
    for name in ("b/c", "a", "a-b", "b.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/file").write_bytes(b"12345")
    (tmp_path / "a/file").chmod(0o4755)
    (tmp_path / "b/c/link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "b/pipe")
    found = entries(tmp_path)
    assert [(entry.path, entry.type) for entry in found] == [
        (b"a", tar.DIRECTORY),
        (b"a-b", tar.DIRECTORY),
        (b"a/file", tar.FILE),
        (b"b", tar.DIRECTORY),
        (b"b.d", tar.DIRECTORY),
        (b"b/c", tar.DIRECTORY),
        (b"b/c/link", tar.SYMLINK),
        (b"b/pipe", tar.FIFO),
    ]
    assert (found[2].mode, found[2].size) == (0o4755, 5)
    assert found[6].target == b"/nowhere"


def test_the_first_name_in_order_is_the_file_and_the_others_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "z").write_bytes(b"12345")
    (tmp_path / "m").hardlink_to(tmp_path / "z")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").hardlink_to(tmp_path / "z")
    assert [(entry.path, entry.type, entry.size, entry.target) for entry in entries(tmp_path)] == [
        (b"d", tar.DIRECTORY, 0, b""),
        (b"d/a", tar.FILE, 5, b""),
        (b"m", tar.HARDLINK, 0, b"d/a"),
        (b"z", tar.HARDLINK, 0, b"d/a"),
    ]


def test_two_names_of_one_link_stay_two_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("x")
    os.link(tmp_path / "a", tmp_path / "b", follow_symlinks=False)
    assert [entry.type for entry in entries(tmp_path)] == [tar.SYMLINK, tar.SYMLINK]


def test_names_are_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    os.close(os.open(raw, os.O_CREAT))
    assert [entry.path for entry in entries(tmp_path)] == [b"caf\xe9"]


def test_a_link_to_a_directory_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/inside").symlink_to("../outside")
    assert [entry.path for entry in entries(tmp_path / "tree")] == [b"inside"]


def deep(root: Path, levels: int) -> Iterator[None]:
    directory = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 9, dir_fd=directory)
        below = os.open("d" * 9, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    yield


def test_depth_is_no_matter(tmp_path: Path) -> None:
    for _ in deep(tmp_path, 400):
        assert len(entries(tmp_path)[-1].path) == 400 * 10 - 1


def test_a_path_that_is_too_long_for_apk_is_refused(tmp_path: Path) -> None:
    for _ in deep(tmp_path, 420):
        with pytest.raises(BuildError, match="a path of 4089 bytes; apk takes less than 4085"):
            entries(tmp_path)


@pytest.mark.parametrize("name", ["one\ntwo", "tab\t", "esc\x1b[31m", "del\x7f"])
def test_control_characters_in_names_are_refused_and_not_printed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BuildError, match="control character") as caught:
        entries(tmp_path)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["file", "directory"])
def test_a_dot_name_in_the_root_directory_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / ".hidden")
    with pytest.raises(BuildError, match=r"/\.hidden: apk does not install what begins with a dot"):
        entries(tmp_path)


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(BuildError, match="s is a socket"):
            entries(tmp_path)


def test_a_file_of_eight_gibibytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(BuildError, match="apk unpacks no file of 8 GiB or more"):
        entries(tmp_path)


def test_a_tree_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="nothing in the package's tree cannot be read: No such file or directory"):
        entries(tmp_path / "nothing")


def swap_file_for_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def swap_file_for_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swap_directory_for_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


def swap_file_for_another(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def grow(path: Path) -> None:
    path.write_bytes(b"longer than before")


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        (swap_file_for_link, "cannot be read: Too many levels of symbolic links"),
        (swap_directory_for_link, "cannot be read: Not a directory|cannot be read: Too many levels"),
        (swap_file_for_fifo, "changed while it was being packed"),
        (swap_file_for_another, "changed while it was being packed"),
        (grow, "changed while it was being packed"),
    ],
)
def test_what_takes_a_files_place_is_not_opened(tmp_path: Path, swap: object, message: str) -> None:
    file = tmp_path / "tree/d/file"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    assert callable(swap)
    with Tree(tmp_path / "tree") as tree:
        entry = tree.entries()[-1]
        swap(file)
        # The directory that is open already would still be the right one.
        os.close(tree._descriptor)
        tree._path, tree._descriptor = b"", -1
        with pytest.raises(BuildError, match=message), tree.opened(entry):
            pytest.fail("it was opened")


def test_attributes_of_the_file_are_kept_and_those_of_the_machine_are_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    try:
        os.setxattr(file, "user.colour", b"blue\0\n")
    except OSError:
        pytest.skip("no extended attributes on this file system")
    os.setxattr(file, "user.overlay.origin", b"x")
    assert entries(tmp_path)[0].xattrs == ((b"user.colour", b"blue\0\n"),)


def test_capabilities_from_a_user_namespace_become_the_machines() -> None:
    inside = bytes.fromhex("01000003" + "0004000000000000" + "0000000000000000" + "e8030000")
    assert _capability(inside) == bytes.fromhex("01000002" + "0004000000000000" + "0000000000000000")
    assert _capability(_capability(inside)) == _capability(inside)

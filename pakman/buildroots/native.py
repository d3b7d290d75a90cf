"""This machine as the build root: an Alpine container, such as the action's own, in which pakman is root.

Such a container refuses namespaces, so a build runs beside everything else: as a user of its own, whose group root's
programs have as well, so that whatever they leave behind can be found. What is made for a build is written down before
it is made, and taken away when the build ends, however it ends; after a SIGKILL by the next build.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from pakman import command, scratch
from pakman.buildroots import BUILD_USER, User, chroot, processes, set_up, views
from pakman.buildroots.capabilities import Capability
from pakman.buildroots.verbs import ENV, Entry, Verbs
from pakman.errors import UsageError
from pakman.stack import ROOTS_OWN

STATE = Path("/run/pakman")
"""Where a build writes down what it changes, for its own user's eyes only; its lock keeps a second build waiting."""

_HERE = Path("/")
_USUAL_SOCKET = "/var/run/docker.sock"
_DATABASES = ("passwd", "passwd-", "shadow", "shadow-", "group", "group-", "subuid", "subgid")
_APK_FILES = ("etc/apk/world", "etc/apk/repositories")
_EVERYBODYS = ("tmp", "var/tmp", "dev/shm")
# Which packages were asked for stands in `world`; without a word, apk makes what is installed agree with it.
_AGREE = ("apk", "add", "--quiet", "--no-progress", "--no-network", "--repositories-file", "/dev/null")


def release() -> str | None:
    """Return this machine's /etc/alpine-release, None where it is not Alpine."""
    try:
        return (_HERE / "etc/alpine-release").read_text().strip()
    except OSError:
        return None


def is_container() -> bool:
    """Say whether this machine is a container of Docker's or Podman's: nobody's own, and gone after the build."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def secret_places(env: Mapping[str, str]) -> list[Path]:
    """Return the directories of this container that a build has no business in.

    GitHub mounts the workspace (in which checkout leaves its token), the event and the file commands below /github, and
    the engine's socket, which may be any user's.
    """
    found = [Path("/github")]
    # The usual one is there also where the job's engine is another.
    for place in dict.fromkeys([env.get("DOCKER_HOST", "").removeprefix("unix://"), _USUAL_SOCKET]):
        socket = Path(place)
        # A directory that programs need is not closed for the sake of one socket in it, which has an owner of its own.
        if socket.is_socket() and (folder := socket.resolve().parent) not in {Path("/"), Path("/tmp")}:  # noqa: S108
            found.append(folder)
    return found


class Native(Verbs):
    """A build root that is this machine. `cache` has room for what is kept; nobody but root gets into `hidden`.

    `repositories` as in Stack: where packages come from. `on_notice` hears why it takes its time, `on_warning` of
    repositories that cannot be reached.
    """

    confines_root = False

    def __init__(
        self,
        cache: Path,
        *,
        hidden: Sequence[Path] = (),
        repositories: Sequence[tuple[str, ...]] = (ROOTS_OWN,),
        on_notice: Callable[[str], None] = lambda _: None,
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(repositories, on_warning)
        self._room = "on this machine"
        self._cache = cache
        self._hidden = hidden
        self._on_notice = on_notice
        self._kept: tuple[PurePosixPath, Path] | None = None

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise UsageError("building on this machine itself takes root", hint="run pakman as root")
        with ExitStack() as stack:
            stack.enter_context(_alone(self._on_notice))
            _undo()  # what a build that was killed has left
            self._before = _Before()
            stack.callback(self._leave)
            self._before.note_files([f"etc/{name}" for name in _DATABASES] + list(_APK_FILES))
            self._before.note_absent(_HERE / "home" / BUILD_USER)
            self._before.note_modes([_HERE / "tmp", _HERE / "var/tmp"])
            self._set_up()
            stack.enter_context(command.started(chroot.watcher_of_group(self._ids[1]), env={}, stdin=subprocess.PIPE))
            self._hide()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath, *, user: User) -> None:
        """Unpack a tar stream into a directory, which is made and, where it was not there, taken away in the end."""
        self._before.note_absent(_HERE / directory)
        super().copy_in(tar, directory, user=user)

    def copy_out(self, directory: PurePosixPath) -> IO[bytes]:
        """Return a tar stream of a directory's content; a link in its path may have been put there by the build."""
        if (_HERE / directory).is_dir():
            views.inside(_HERE, directory)
        return super().copy_out(directory)

    @contextmanager
    def tree(self, directory: PurePosixPath) -> Iterator[Path]:
        """Yield the directory itself; a link in its path may have been put there to lead elsewhere."""
        yield views.inside(_HERE, directory)

    def keep(self, directory: PurePosixPath) -> str:
        """Have a directory copied to the cache when the root is left; return where it will be."""
        self._kept = (directory, self._cache / "kept" / f"native-{secrets.token_hex(4)}")
        return str(self._kept[1])

    def _leave(self) -> None:
        processes.kill(lambda: processes.of_group(self._ids[1]) if self._ids[1] else [])
        try:
            if self._kept is not None:
                directory, kept = self._kept
                kept.parent.mkdir(parents=True, exist_ok=True)
                command.capture(["cp", "-a", str(_HERE / directory), str(kept)], env=ENV)
        finally:
            _undo()

    def _hide(self) -> None:
        # What is mounted here is another machine's, too, and its mode is not ours to change.
        places = [place for place in self._hidden if place.is_dir() and not place.is_symlink() and not place.is_mount()]
        self._before.note_modes(places)
        for place in places:
            place.chmod(0o700)

    def _set_up(self) -> None:
        said: list[str] = []
        status = command.stream(["/bin/sh", "-c", set_up.SCRIPT], env=ENV, on_line=said.append)
        ready = set_up.read(said, status, hint="is this machine Alpine, and may root of it make a user?")
        self.release, self.arch, self.has_abuild = ready.release, ready.arch, ready.has_abuild
        self._ids = (ready.uid, ready.gid)
        self._before.note_user(ready.uid, ready.gid)

    def _end(self) -> None:
        processes.kill(lambda: processes.of_group(self._ids[1]))

    def _entry(
        self,
        argv: Sequence[str],
        user: User,
        capabilities: Collection[Capability],
        env: Mapping[str, str],
        cwd: PurePosixPath,
        *,
        is_tar: bool = False,
    ) -> Entry:
        del is_tar  # all programs have the streams that they are given here
        ids = self._ids if user == "build" else (0, 0)
        return chroot.entry(_HERE, argv, ids=ids, group=self._ids[1], capabilities=capabilities, env=env, cwd=cwd)


@contextmanager
def _alone(on_notice: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine's lock, waiting for it."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_notice("another build runs on this machine: this one waits for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(slots=True)
class _Before:
    """What was before the build, on disk before it is changed."""

    files: dict[str, str | None] = field(default_factory=dict)
    """By path: content (base64), None where there was none."""
    absent: list[str] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)
    user: tuple[int, int] | None = None

    def note_files(self, paths: Sequence[str]) -> None:
        """Note what files hold."""
        for path in paths:
            with suppress(FileNotFoundError):
                self.files[path] = None
                self.files[path] = base64.b64encode((_HERE / path).read_bytes()).decode()
        self._write()

    def note_absent(self, path: Path) -> None:
        """Note the first part of a path that is not there, if there is one."""
        for part in [*reversed(path.parents), path]:
            if not os.path.lexists(part):
                self.absent.append(str(part))
                self._write()
                return

    def note_user(self, uid: int, gid: int) -> None:
        """Note whose files and processes are the build's."""
        self.user = (uid, gid)
        self._write()

    def note_modes(self, directories: Sequence[Path]) -> None:
        """Note who may get into directories."""
        for directory in directories:
            with suppress(FileNotFoundError):
                self.modes[str(directory)] = directory.stat().st_mode & 0o7777
        self._write()

    def _write(self) -> None:
        state = {"files": self.files, "absent": self.absent, "modes": self.modes, "user": self.user}
        temporary = STATE / "before.new"
        temporary.write_text(json.dumps(state))
        temporary.replace(STATE / "before.json")


def _undo() -> None:
    """Make everything what it was before the build that wrote it down, if one did."""
    note = STATE / "before.json"
    try:
        before = json.loads(note.read_text())
    except FileNotFoundError:
        return
    if before["user"] is not None:
        uid, gid = before["user"]
        processes.kill(lambda: processes.of_group(gid))
        for folder in _EVERYBODYS:
            _remove_files_of(uid, _HERE / folder)
    for path in before["absent"]:
        _remove(Path(path))
    # Packages before users: their scripts may need them to go.
    changed = [path for path in before["files"] if _restored(path, before["files"][path], only=_APK_FILES)]
    if "etc/apk/world" in changed:
        command.capture(_AGREE, env=ENV)
    for path, content in before["files"].items():
        _restored(path, content)
    for path, mode in before["modes"].items():
        with suppress(FileNotFoundError):
            Path(path).chmod(mode)
    note.unlink()


def _restored(path: str, content: str | None, *, only: Collection[str] = ()) -> bool:
    """Write back what a file held; say whether it was another content."""
    file = _HERE / path
    if only and path not in only:
        return False
    if content is None:
        file.unlink(missing_ok=True)
        return False
    held = base64.b64decode(content)
    with suppress(FileNotFoundError):
        if file.read_bytes() == held:
            return False
    # Written over, and not replaced: owner and mode stay, and a container may have it mounted.
    file.write_bytes(held)
    return True


def _remove_files_of(uid: int, folder: Path) -> None:
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.lstat().st_uid == uid:
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        scratch.remove(path)
    else:
        path.unlink(missing_ok=True)

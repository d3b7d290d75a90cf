"""The sandbox: an Alpine root on this machine, a fresh view of it per build, entered with bubblewrap or chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Literal, Self

from pakman import command
from pakman.buildroots import BUILD_USER, TOP, User, apk_add, bubblewrap, chroot, rootfs, set_up, views
from pakman.buildroots.capabilities import BUILD, INSTALL, PACKAGE, Capability
from pakman.errors import BuildError, UsageError
from pakman.stack import ROOTS_OWN

Confinement = Literal["bubblewrap", "chroot"]

_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
"""For what pakman itself runs in the root."""

_RESOLVER = """
rm -f /etc/resolv.conf
printf %s "$1" >/etc/resolv.conf
"""


class Sandbox:
    """A build root on this machine. `rootfs` and `cache` as in rootfs.unpacked; `env` only says where programs are.

    `repositories` as in Stack: where packages come from. `on_notice` hears what its user may want to know about how it
    is entered, `on_warning` of repositories that cannot be reached.
    """

    release: str
    arch: str
    confinement: Confinement
    """How it is entered; known inside the context."""

    def __init__(
        self,
        rootfs: Path | None,
        cache: Path,
        env: Mapping[str, str],
        *,
        confinement: Confinement | None = None,
        repositories: Sequence[tuple[str, ...]] = (ROOTS_OWN,),
        on_notice: Callable[[str], None] = lambda _: None,
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._archive = rootfs
        self._cache = cache
        self._env = env
        self._wanted = confinement
        self._repositories = repositories
        self._on_notice = on_notice
        self._on_warning = on_warning
        self._kept: Path | None = None

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise UsageError(
                "the sandbox takes root: an Alpine root's files belong to several users",
                hint="run pakman as root (sudo)",
            )
        pristine = rootfs.unpacked(self._archive, self._cache, self._env)
        with ExitStack() as stack:
            self._view = views.fresh(pristine, self._cache, self._env)
            stack.callback(self._leave)
            self._bubblewrap = command.which("bwrap", self._env)
            self.confinement = self._wanted or self._possible()
            if self.confinement == "chroot":
                self._on_notice("bubblewrap is refused on this machine: the build runs in a chroot")
                chroot.make_devices(views.inside(self.path, PurePosixPath("/dev")))
                watcher = command.started(chroot.watcher(self.path), env={}, stdin=subprocess.PIPE)
                stack.enter_context(watcher)
            self._ids = (0, 0)
            self._set_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _leave(self) -> None:
        if self._kept is None:
            self._view.remove()
        else:
            self._view.keep(self._kept)

    @property
    def path(self) -> Path:
        """The view's / as this machine sees it; what is in it may have been put there by the build."""
        return self._view.root

    @property
    def build_user_id(self) -> int:
        """The uid of the unprivileged user."""
        return self._ids[0]

    @property
    def build_group_id(self) -> int:
        """The gid of the unprivileged user."""
        return self._ids[1]

    def keep(self, directory: PurePosixPath) -> str:
        """Have the whole view kept when it is left; return where the directory will be."""
        folder = self._view.folder.path
        self._kept = folder.parents[1] / "kept" / folder.name
        return str(self._kept / "root" / directory.relative_to(TOP))

    @contextmanager
    def tree(self, directory: PurePosixPath) -> Iterator[Path]:
        """Yield a directory of the view itself; a link in its path, followed from here, would lead out of the view."""
        yield views.inside(self.path, directory)

    def call(
        self,
        argv: Sequence[str],
        *,
        user: User,
        env: Mapping[str, str],
        cwd: PurePosixPath = TOP,
        on_line: Callable[[str], None],
    ) -> int:
        """Run a program in the root; see BuildRoot. Exit status 127 where there is no such program."""
        return self._stream(argv, user, PACKAGE if user == "root" else BUILD, env, cwd, on_line)

    def add_packages(self, words: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Add packages with the root's own apk; see BuildRoot."""

        def run(argv: Sequence[str]) -> tuple[int, list[str]]:
            said: list[str] = []
            return self._stream(argv, "root", INSTALL, _ENV, TOP, said.append), said

        self._repositories = apk_add.add(
            words, run, on_line, release=self.release, repositories=self._repositories, on_warning=self._on_warning
        )

    def copy_in(self, tar: IO[bytes], directory: PurePosixPath, *, user: User) -> None:
        """Unpack a tar stream into a directory, which is made, as this user."""
        said: list[str] = []
        make = ["/bin/sh", "-ec", 'mkdir -p "$1"; chown "$2" "$1"', "sh", str(directory)]
        owner = BUILD_USER if user == "build" else "root"
        status = self._stream([*make, owner], "root", PACKAGE, _ENV, TOP, said.append)
        if status == 0:
            unpack = ["tar", "-x", "-f", "-", "-C", str(directory)]
            with command.fed(lambda pipe: shutil.copyfileobj(tar, pipe, 1 << 20)) as stdin:
                capabilities = PACKAGE if user == "root" else BUILD
                status = self._stream(unpack, user, capabilities, _ENV, TOP, said.append, stdin)
        if status != 0:
            reason = "".join(said[-1:]) or command.how_it_ended(status)
            raise BuildError(
                f"{directory} cannot be filled in the build root: {reason}",
                hint=f"is there room left where {self._cache} is?",
            )

    def copy_out(self, directory: PurePosixPath) -> IO[bytes]:
        """Return a tar stream of a directory's content."""
        stream = tempfile.TemporaryFile()  # noqa: SIM115  (handed over open)
        argv = self._entry(["tar", "-c", "-f", "-", "-C", str(directory), "."], "root", PACKAGE, TOP)
        done = command.save(argv, env=_ENV, stdout=stream)
        if done.status != 0:
            stream.close()
            reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise BuildError(f"{directory} cannot be read from the build root: {reason}")
        stream.seek(0)
        return stream

    def _stream(
        self,
        argv: Sequence[str],
        user: User,
        capabilities: Collection[Capability],
        env: Mapping[str, str],
        cwd: PurePosixPath,
        on_line: Callable[[str], None],
        stdin: IO[bytes] | None = None,
    ) -> int:
        entry = self._entry(argv, user, capabilities, cwd)
        try:
            status = command.stream(entry, env=env, on_line=on_line, stdin=stdin)
            # As bubblewrap and a shell have it.
            return status if status >= 0 else 128 - status
        finally:
            if self.confinement == "chroot":
                # bubblewrap's PID namespace ended with its program; here a daemon may be left.
                views.kill_all(self.path)

    def _entry(
        self, argv: Sequence[str], user: User, capabilities: Collection[Capability], cwd: PurePosixPath
    ) -> list[str]:
        if self.confinement == "chroot":
            ids = self._ids if user == "build" else (0, 0)
            return chroot.entry(self.path, argv, ids=ids, capabilities=capabilities, cwd=cwd)
        return bubblewrap.entry(
            self._bubblewrap or "bwrap", self.path, argv, user=user, capabilities=capabilities, cwd=cwd
        )

    def _possible(self) -> Confinement:
        """Try bubblewrap: it may be missing, or its namespaces refused."""
        if self._bubblewrap is None:
            return "chroot"
        argv = bubblewrap.entry(self._bubblewrap, self.path, ["true"], user="root", capabilities=INSTALL, cwd=TOP)
        return "bubblewrap" if command.capture(argv, env=_ENV).status == 0 else "chroot"

    def _set_up(self) -> None:
        said: list[str] = []
        argv = ["/bin/sh", "-c", f"{_RESOLVER}{set_up.SCRIPT}", "sh", _resolv_conf()]
        status = self._stream(argv, "root", INSTALL, _ENV, TOP, said.append)
        hint = "give --rootfs an Alpine minirootfs for this machine's architecture, from alpinelinux.org"
        ready = set_up.read(said, status, hint=hint)
        self.release, self.arch = ready.release, ready.arch
        self._ids = (ready.uid, ready.gid)


def _resolv_conf() -> str:
    """Return how this machine resolves names: the build is on its network."""
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""

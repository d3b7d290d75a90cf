"""The sandbox: an Alpine root on this machine, a fresh view of it per build, entered with bubblewrap or chroot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal, Self

from pakman import command
from pakman.buildroots import TOP, User, bubblewrap, chroot, rootfs, set_up, views
from pakman.buildroots.capabilities import INSTALL, Capability
from pakman.buildroots.verbs import ENV, Entry, Verbs
from pakman.errors import UsageError
from pakman.stack import ROOTS_OWN

Confinement = Literal["bubblewrap", "chroot"]

_RESOLVER = """
rm -f /etc/resolv.conf
printf %s "$1" >/etc/resolv.conf
"""


class Sandbox(Verbs):
    """A build root on this machine. `rootfs` and `cache` as in rootfs.unpacked; `env` only says where programs are.

    `repositories` as in Stack: where packages come from. `on_notice` hears what its user may want to know about how it
    is entered, `on_warning` of repositories that cannot be reached.
    """

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
        super().__init__(repositories, on_warning)
        self._archive = rootfs
        self._cache = cache
        self._env = env
        self._wanted = confinement
        self._on_notice = on_notice
        self._room = f"where {cache} is"
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

    def keep(self, directory: PurePosixPath) -> str:
        """Have the whole view kept when it is left; return where the directory will be."""
        folder = self._view.folder.path
        self._kept = folder.parents[1] / "kept" / folder.name
        return str(self._kept / "root" / directory.relative_to(TOP))

    @contextmanager
    def tree(self, directory: PurePosixPath) -> Iterator[Path]:
        """Yield a directory of the view itself; a link in its path, followed from here, would lead out of the view."""
        yield views.inside(self.path, directory)

    def _end(self) -> None:
        if self.confinement == "chroot":
            # bubblewrap's PID namespace ended with its program; here a daemon may be left.
            views.kill_all(self.path)

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
        if self.confinement == "chroot":
            ids = self._ids if user == "build" else (0, 0)
            return chroot.entry(self.path, argv, ids=ids, capabilities=capabilities, env=env, cwd=cwd)
        program = self._bubblewrap or "bwrap"
        return Entry(bubblewrap.entry(program, self.path, argv, user=user, capabilities=capabilities, cwd=cwd), env)

    def _possible(self) -> Confinement:
        """Try bubblewrap: it may be missing, or its namespaces refused."""
        if self._bubblewrap is None:
            return "chroot"
        argv = bubblewrap.entry(self._bubblewrap, self.path, ["true"], user="root", capabilities=INSTALL, cwd=TOP)
        return "bubblewrap" if command.capture(argv, env=ENV).status == 0 else "chroot"

    def _set_up(self) -> None:
        said: list[str] = []
        argv = ["/bin/sh", "-c", f"{_RESOLVER}{set_up.SCRIPT}", "sh", _resolv_conf()]
        status = self._stream(argv, "root", INSTALL, ENV, TOP, said.append)
        hint = "give --rootfs an Alpine minirootfs for this machine's architecture, from alpinelinux.org"
        ready = set_up.read(said, status, hint=hint)
        self.release, self.arch, self.has_abuild = ready.release, ready.arch, ready.has_abuild
        self._ids = (ready.uid, ready.gid)


def _resolv_conf() -> str:
    """Return how this machine resolves names: the build is on its network."""
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""

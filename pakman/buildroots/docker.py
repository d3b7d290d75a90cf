"""A container of the stack's build image, in a Docker or Podman engine that may be anywhere: files go as tar streams.

The container's first process is a shell that waits for a line on its stdin, a pipe that this process holds. For each
line it kills all other processes; when the pipe ends, because pakman ends (by SIGKILL, too), it ends, and with it the
container, which the engine then removes.
"""

from __future__ import annotations

import os
import secrets
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from pakman import command, scratch
from pakman.buildroots import User, container, rootfs, set_up
from pakman.buildroots.capabilities import INSTALL, Capability
from pakman.buildroots.engine import Engine, last_line
from pakman.buildroots.verbs import ENV, Entry, Verbs
from pakman.errors import BuildError
from pakman.stack import ROOTS_OWN

# kill(2) of -1 spares the caller and the first process, which here are the same; it fails once nobody else is there.
# What it killed has to be waited for, which the shell does while it waits for a program of its own.
_FIRST_PROCESS = """
while read -r token; do
	tries=0
	while [ "$tries" -lt 3000 ] && kill -9 -1 2>/dev/null; do
		tries=$((tries + 1))
		/bin/true
	done
	echo "$token"
done
"""
_CAPABILITIES = INSTALL | {Capability.CAP_KILL}
"""Its first process ends those of every user."""
_XATTR = "SCHILY.xattr."
_COPY = "tree-"
"""What a directory's name begins with that has a copy of a tree, in the cache directory."""


class Docker(Verbs):
    """A build root in a container of `image`, which is there already; `cache` has room for what is copied out.

    `repositories` as in Stack: where packages come from; `on_warning` hears of those that cannot be reached.
    """

    name: str
    """The container's."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        cache: Path,
        *,
        repositories: Sequence[tuple[str, ...]] = (ROOTS_OWN,),
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(repositories, on_warning)
        self._room = f"where {engine.name} keeps its containers"
        self._engine = engine
        self._image = image
        self._cache = cache
        self.name = f"pakman-{secrets.token_hex(8)}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            script = f"{set_up.SCRIPT}\necho {self.name}\n{_FIRST_PROCESS}"
            self._process = stack.enter_context(
                container.started(
                    self._engine,
                    self._image,
                    self.name,
                    script,
                    env=ENV,
                    capabilities=_CAPABILITIES,
                    options=("--security-opt", "no-new-privileges"),
                )
            )
            self._orders, self._output = command.pipes(self._process)
            ready = self._ready()
            self.release, self.arch, self.has_abuild = ready.release, ready.arch, ready.has_abuild
            self._ids = (ready.uid, ready.gid)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @contextmanager
    def tree(self, directory: PurePosixPath) -> Iterator[Path]:
        """Yield a copy of a directory, made by the engine: unlike busybox's tar, it knows extended attributes."""
        self._must_be_a_directory(directory)
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            copy = scratch.make(self._cache, _COPY)
        except OSError as error:
            raise BuildError(f"{self._cache} cannot be written: {error.strerror or error}", hint=rootfs.ROOM) from error
        order = Entry(self._engine.order("cp", f"{self.name}:{directory}", "-"), self._engine.env)
        try:
            try:
                with self._saved(order, directory) as stream:
                    _unpack(stream, copy.path)
            except (OSError, tarfile.TarError) as error:
                raise BuildError(f"{directory} cannot be copied to {self._cache}: {error}", hint=rootfs.ROOM) from error
            yield copy.path / directory.name
        finally:
            copy.remove()

    def keep(self, directory: PurePosixPath) -> str:
        """Make an image of the container as it is now; return how to look at it."""
        image = f"pakman-kept:{self.name.removeprefix('pakman-')}"
        done = self._engine.ask("commit", self.name, image)
        if done.status != 0:
            raise BuildError(f"the build tree cannot be kept: {last_line(done)}")
        return f"{directory} of the image {image}: `{self._engine.name} run --rm -it --entrypoint /bin/sh {image}`"

    def _ready(self) -> set_up.Readiness:
        said = list(self._lines_until(self.name))
        status = self._process.poll() or 0
        container.must_have_started(self._engine, self._image, status, said)
        return set_up.read(said, status, hint=container.is_alpine(self._image))

    def _lines_until(self, last: str) -> Iterator[str]:
        for line in self._output:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if text == last:
                return
            yield text
        self._process.wait()

    def _end(self) -> None:
        """Kill every process in the container, return when they are gone; raise BuildError where it is itself gone."""
        token = secrets.token_hex(8)
        with suppress(BrokenPipeError):
            self._orders.write(f"{token}\n".encode())
            self._orders.flush()
        for _ in self._lines_until(token):
            pass
        if self._process.poll() is not None:
            raise BuildError(
                "the build's container ended before the build did",
                hint=f"was it stopped by somebody else, is {self._engine.name} still running, was there memory left?",
            )

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
        del capabilities  # a container has one set for all that root does in it
        words = ["/usr/bin/env", "-i", *container.assignments({**env, "PWD": str(cwd)}), *argv]
        ids = self._ids if user == "build" else (0, 0)
        order = self._engine.order(
            *("exec", *(["--interactive"] if is_tar else []), "--user", f"{ids[0]}:{ids[1]}", "--workdir", str(cwd)),
            *(self.name, *_becoming(words, is_tar=is_tar)),
        )
        return Entry(order, self._engine.env)

    def _must_be_a_directory(self, directory: PurePosixPath) -> None:
        check = ["/bin/sh", "-c", 'test -d "$1" && test "$(readlink -f "$1")" = "$1"', "sh", str(directory)]
        if self.call(check, user="root", env=ENV, on_line=lambda _: None) != 0:
            raise BuildError(f"{directory} in the build root is not the directory that it has to be")


def _becoming(words: Sequence[str], *, is_tar: bool) -> list[str]:
    """Return the shell that becomes the program `words`; its stdout and stderr are one: the engine would mix them up.

    The engine's API is JSON: what is not UTF-8 does not come through, and is spelled out in the shell's text.
    """
    parts = ['"$@"']
    if any("\udc80" <= character <= "\udcff" for word in words for character in word):
        parts = [f'"${{{number}}}"' if _is_text(word) else _octal(word) for number, word in enumerate(words, 1)]
    script = f"umask 022; exec {' '.join(parts)}{'' if is_tar else ' 2>&1'}"
    return ["/bin/sh", "-c", script, "sh", *(word if _is_text(word) else "" for word in words)]


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _octal(word: str) -> str:
    return "$'" + "".join(f"\\{byte:03o}" for byte in word.encode("utf-8", "surrogateescape")) + "'"


def _unpack(stream: IO[bytes], folder: Path) -> None:
    """Unpack a tree as it is: owners, modes, links, extended attributes."""
    with tarfile.open(fileobj=stream, errorlevel=1) as tar:
        # The engine wrote it, from directories that it walked itself: no name in it leads elsewhere.
        # Not as an argument: Python has it since 3.11.4, and Debian 12 has 3.11.2, which trusts all.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        for entry in tar:
            tar.extract(entry, folder, numeric_owner=True)
            for name, value in entry.pax_headers.items():
                # The value is bytes that Python took for text, as far as it could.
                if name.startswith(_XATTR) and not entry.issym():
                    attribute = name.removeprefix(_XATTR)
                    os.setxattr(folder / entry.name, attribute, value.encode("utf-8", "surrogateescape"))

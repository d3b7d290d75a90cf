"""What builds have downloaded, kept between them: apk's packages, and what the languages' own tools fetch.

Only downloads are kept, never what a build made of them: programs, compiled extensions and compilers' caches (~/.mix,
~/.cargo/bin, GOCACHE, pip's wheels) could make a package differ with what was built before. What is kept, the tools
hold against checksums or signatures of their own, as they do with a download.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from tarfile import RECORDSIZE, TarInfo
from typing import IO

from pakman import command
from pakman.buildroots import HOME, TOP, BuildRoot, User, cache_file
from pakman.buildroots.cache_file import Content, DamagedCacheError, LargeCacheError, Wanted
from pakman.errors import BuildError
from pakman.progress import Progress, human_size

FOLDER = "downloads"
"""Where the caches lie in the cache directory."""

DOWNLOADS = (
    ".npm/_cacache",
    # BUNDLE_GLOBAL_GEM_CACHE also puts compiled extensions there, which are not taken along.
    *(".bundle/cache/gems", ".bundle/cache/compact_index", ".bundle/cache/git"),
    ".cache/composer",
    ".hex/packages",
    # Not the sources that Go and Cargo unpack from it.
    ".cache/go/cache/download",
    *(".cargo/registry/index", ".cargo/registry/cache", ".cargo/git/db"),
    # Not pip's wheels, which it built itself.
    *(".cache/pip/http", ".cache/pip/http-v2"),
)
"""What is kept of the build user's home; driver.environment sees to it that the tools put it there."""

_APK = PurePosixPath("/etc/apk/cache")
"""apk-cache(5): apk keeps what it downloads where this directory is."""
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

# Links are not followed: they may lead to what the build user cannot read, and who packs it can.
_THERE = """
for path; do
    if [ -d "$path" ] && [ "$(readlink -f "$path")" = "$(readlink -f .)/$path" ]; then printf '%s\\n' "$path"; fi
done
"""


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two caches."""

    name: str
    directory: PurePosixPath
    user: User
    paths: Sequence[str]
    """What of the directory is kept; empty: all that is wanted."""
    wanted: Wanted


_PACKAGE_OR_INDEX = re.compile(r"[a-zA-Z0-9][\w.+~-]*\.apk|APKINDEX\.[0-9a-f]+\.tar\.gz", re.ASCII)


def _is_package_or_index(entry: TarInfo) -> bool:
    return entry.isreg() and _PACKAGE_OR_INDEX.fullmatch(entry.name) is not None


def _is_download(entry: TarInfo) -> bool:
    return any(entry.name == top or entry.name.startswith(f"{top}/") for top in DOWNLOADS)


_PACKAGES = _Kind("apk", _APK, "root", (), _is_package_or_index)
_LANGUAGES = _Kind("builds", HOME, "build", DOWNLOADS, _is_download)


@contextmanager
def kept(root: BuildRoot, cache: Path, version: str, progress: Progress) -> Iterator[Caches]:
    """Bring what earlier builds downloaded into an entered root; keep, where this build succeeds, what it downloaded.

    `cache` is the cache directory, `version` the stack's. Nothing that is wrong with a cache fails a build.
    """
    caches = Caches(root, cache / FOLDER, version, progress)
    caches.bring_in_downloads()
    yield caches
    caches.keep_downloads()


class Caches:
    """The caches of one build."""

    def __init__(self, root: BuildRoot, folder: Path, version: str, progress: Progress) -> None:
        self._root = root
        self._folder = folder
        self._suffix = f"{version}-{root.arch}.tar"
        self._progress = progress
        self._came: dict[str, Content] = {}
        self._went: dict[str, Content] = {}

    def add_packages(self, words: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Add packages as BuildRoot.add_packages does, out of apk's cache; keep that at once.

        Later the user's code has run: what it does as root in the root must not outlive the root. Where the root has
        it all, nothing is downloaded, and the cache stays where it is.
        """
        if not words or self._root.add_installed(words, on_line):
            return
        before = self._bring_in(_PACKAGES)
        try:
            self._root.add_packages(words, on_line)
        except BuildError:
            if before is None or not self._added_without_cache(words, on_line):
                raise
        self._keep(_PACKAGES)
        self._remove(_PACKAGES)

    def bring_in_downloads(self) -> None:
        """Unpack what the languages' tools have downloaded in earlier builds."""
        self._bring_in(_LANGUAGES)

    def keep_downloads(self) -> None:
        """Keep what they have now, and say how much came and went."""
        self._keep(_LANGUAGES)
        came, went = (sum(content.size for content in contents.values()) for contents in (self._came, self._went))
        if came or went:
            self._progress.say(f"cache: {human_size(came)} in, {human_size(went)} out")

    def _added_without_cache(self, words: Sequence[str], on_line: Callable[[str], None]) -> bool:
        """Try again as if there were no cache; say whether that helped."""
        self._remove(_PACKAGES)
        self._fill(_PACKAGES, None)
        try:
            self._root.add_packages(words, on_line)
        except BuildError:
            return False
        self._progress.notice(f"{self._file(_PACKAGES)} was no good: its packages were downloaded again")
        return True

    def _file(self, kind: _Kind) -> Path:
        return self._folder / f"{kind.name}-{self._suffix}"

    def _bring_in(self, kind: _Kind) -> Content | None:
        """Unpack a cache in the root; return what was in it, None for nothing."""
        path = self._file(kind)
        try:
            with cache_file.opened(path) as file:
                content = cache_file.checked(file, kind.wanted) if file is not None else None
                self._fill(kind, file)
        except (DamagedCacheError, LargeCacheError):
            self._progress.notice(f"{path} is damaged and dropped: this build downloads again what was in it")
            _discard(path)
            self._fill(kind, None)
            return None
        if content is not None:
            self._came[kind.name] = content
        return content

    def _fill(self, kind: _Kind, file: IO[bytes] | None) -> None:
        """Unpack a checked cache; without one, make apk's directory: where it is not, apk keeps nothing."""
        try:
            if file is not None:
                with command.fed(lambda pipe: cache_file.pour(file, pipe, kind.wanted)) as stream:
                    self._root.copy_in(stream, kind.directory, user=kind.user)
            elif kind is _PACKAGES:
                self._root.copy_in(BytesIO(bytes(RECORDSIZE)), kind.directory, user=kind.user)
        except (BuildError, OSError) as error:
            self._progress.notice(f"{self._file(kind)} is not used: {_reason(error)}")
            self._remove(kind)

    def _keep(self, kind: _Kind) -> None:
        path = self._file(kind)
        owner = self._root.build_user_id if kind.user == "build" else 0
        try:
            self._went[kind.name] = cache_file.save(
                path, self._streams(kind), kind.wanted, owner=owner, before=self._came.get(kind.name)
            )
        except LargeCacheError:
            most = human_size(cache_file.MOST)
            self._progress.notice(f"{path} would be larger than {most}: it is dropped, and the next build begins anew")
            _discard(path)
        except (OSError, BuildError) as error:
            self._progress.warning(f"{path} cannot be written, so the next build downloads again: {_reason(error)}")

    def _streams(self, kind: _Kind) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield tar streams of what is in the root, each with where it is in the cache."""
        there = [""]
        if kind.paths:
            there = []
            self._call(["sh", "-c", _THERE, "sh", *kind.paths], kind.user, cwd=kind.directory, on_line=there.append)
        for path in there:
            if not kind.paths or path in kind.paths:
                with self._root.copy_out(kind.directory / path) as stream:
                    yield path, stream

    def _remove(self, kind: _Kind) -> None:
        self._call(["rm", "-rf", *(str(kind.directory / path) for path in kind.paths or [""])], kind.user)

    def _call(
        self,
        argv: Sequence[str],
        user: User,
        *,
        cwd: PurePosixPath = TOP,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> int:
        return self._root.call(argv, user=user, env=_ENV, cwd=cwd, on_line=on_line)


def _reason(error: BuildError | OSError) -> str:
    return error.message if isinstance(error, BuildError) else error.strerror or str(error)


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()

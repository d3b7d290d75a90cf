"""What a run root is given before the package comes: repositories, keys, and the packages that it depends on."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from shlex import quote as sh
from typing import IO

from pakman import command
from pakman.apk.read import read_control
from pakman.buildroots import TOP, apk_add
from pakman.checks import OWN_TEST, Check, Checks, Subject, last_words, worth_reading
from pakman.errors import BuildError, UsageError
from pakman.names import dependency_name
from pakman.runroots import RunRoot, UntestableError
from pakman.runroots.choice import Place
from pakman.stack import ROOTS_OWN

NEW = PurePosixPath("/pakman/new")
"""Where the repository under test is in the root."""
OLD = PurePosixPath("/pakman/old")
"""Where the previous one is."""
_CACHE = PurePosixPath("/etc/apk/cache")
"""apk-cache(5): what is here, apk need not download."""
_SECONDS = 300.0
_ROOTFS = "--run-root sandbox and --rootfs"

# One virtual package stands for all: what the package under test brings and takes away is then its own alone.
_ADD = "apk add --no-network --no-progress --virtual .pakman-test"


@dataclass(frozen=True, slots=True)
class Supplies:
    """What was found for the words of a subject's dependencies, good for several roots."""

    words: tuple[str, ...]
    repositories: tuple[str, ...] = ROOTS_OWN
    """Those that serve; the root's own, where nothing had to be asked for."""
    downloaded: IO[bytes] | None = None
    """A tar stream of apk's cache; None where the root has all."""
    own_test: Check | None = None
    """What says that the manifest's own test cannot run without `test.packages`; None where it can."""

    def close(self) -> None:
        """Let go of what was downloaded."""
        if self.downloaded is not None:
            self.downloaded.close()


def found(place: Place, root: RunRoot, subject: Subject) -> Generator[Check, None, Supplies | None]:
    """Find what the package, and the manifest's own test, depend on; return None where that cannot be had."""
    words, added = _words(subject), _added(subject)
    said: list[str] = []
    try:
        return _had(place, root, (*words, *added), said.append)
    except apk_add.UnreachableError as error:
        if added and _has(root, words):
            reason = f"not run: {_of_test(error, 'the test')}"
            return Supplies(words, own_test=Check(OWN_TEST, "skipped", path="test.packages", reason=reason))
        raise UntestableError(_of_test(error), hint=error.hint.replace("--rootfs", _ROOTFS)) from error
    except BuildError as error:
        if added:
            with suppress(BuildError):
                reason, lines = _of_test(error, "the test"), worth_reading(said)
                failed = Check(OWN_TEST, "failed", path="test.packages", reason=reason, lines=lines)
                return replace(_had(place, root, words, said.append), own_test=failed)
        name = f"{subject.name}'s dependencies can be had"
        yield Check(name, "failed", 0.0, "dependencies.runtime", _of_test(error), worth_reading(said))
        return None


def is_had(root: RunRoot, subject: Subject) -> bool:
    """Say whether a root has what the package depends on, without a repository."""
    return _has(root, _words(subject))


def _had(place: Place, root: RunRoot, words: tuple[str, ...], on_line: Callable[[str], None]) -> Supplies:
    if _has(root, words):
        return Supplies(words)
    with place.download_root() as other:
        # Where this directory is, apk keeps what it downloads.
        other.copy_in(BytesIO(bytes(tarfile.RECORDSIZE)), _CACHE, user="root")
        other.add_packages(words, on_line)
        return Supplies(words, tuple(other.repositories[0]), other.copy_out(_CACHE))


def _has(root: RunRoot, words: tuple[str, ...]) -> bool:
    quoted = " ".join(map(sh, words))
    script = f"{_ADD} --simulate --repositories-file /dev/null -- {quoted}"
    return not words or root.run(script, _SECONDS).status == 0


def brought(root: RunRoot, subject: Subject, supplies: Supplies) -> Checks:
    """Bring the repositories, our keys and the dependencies into a fresh root; what comes in is said once."""
    with command.fed(lambda pipe: _write(pipe, subject)) as stream:
        root.copy_in(stream, TOP)
    if supplies.downloaded is not None:
        supplies.downloaded.seek(0)
        root.copy_in(supplies.downloaded, _CACHE)
    lines = "".join(f"{line}\n" for line in supplies.repositories)
    script = f"""
        set -e
        {f"printf %s {sh(lines)} >/etc/apk/repositories" if lines else ""}
        cp /etc/apk/repositories /pakman/repositories
        {f"{_ADD} -- {' '.join(map(sh, supplies.words))}" if supplies.words else ""}
    """
    ran = root.run(script, _SECONDS)
    if ran.status != 0:
        reason = f"apk cannot add {' '.join(supplies.words)}: {last_words(ran.lines)}"
        name = f"{subject.name}'s dependencies are installed"
        yield Check(name, "failed", ran.seconds, "dependencies.runtime", reason, worth_reading(ran.lines))
        return False
    if supplies.words:
        yield Check(f"{subject.name}'s dependencies are installed", "passed", ran.seconds, "dependencies.runtime")
    return True


def serving(directory: PurePosixPath) -> str:
    """Return the script that has apk read one of our repositories beside the stack's."""
    return f"{{ cat /pakman/repositories; echo {directory}; }} >/etc/apk/repositories"


def _of_test(error: BuildError, what: str = "the package") -> str:
    return error.message.replace("the build needs", f"{what} needs", 1)


def _added(subject: Subject) -> tuple[str, ...]:
    """Return what the manifest's own test takes beside the package."""
    return tuple(dict.fromkeys(word for word in subject.manifest.test.packages if word not in _words(subject)))


def _words(subject: Subject) -> tuple[str, ...]:
    """Return what the packages depend on beside each other, and what machines with services have."""
    files = [package.path for package in subject.repository.packages]
    if subject.previous is not None:
        files += sorted((subject.previous.directory / subject.repository.arch).glob("*.apk"))
    own = {package.name for package in subject.repository.packages}
    found = [word for file in files for word in read_control(file).metadata.depends]
    if f"{subject.name}-openrc" in own:
        found.append("openrc")
    # /bin/sh, which install scripts are for: no root is without.
    return tuple(dict.fromkeys(word for word in found if word[0] not in "!/" and dependency_name(word) not in own))


def _write(pipe: IO[bytes], subject: Subject) -> None:
    """Write the repositories and their keys as a tar stream, everything root's."""
    with tarfile.open(fileobj=pipe, mode="w|") as tar:
        for name, file in _files(subject):
            entry = tarfile.TarInfo(name)
            if file is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
                continue
            try:
                with file.open("rb") as stream:
                    entry.size, entry.mode = file.stat().st_size, 0o644
                    tar.addfile(entry, stream)
            except OSError as error:
                raise UsageError(f"{file} cannot be read: {error.strerror or error}", hint="build it again") from error


def _files(subject: Subject) -> Iterator[tuple[str, Path | None]]:
    repository, previous = subject.repository, subject.previous
    for directory in ("pakman", "pakman/new", f"pakman/new/{repository.arch}", "etc/apk/cache"):
        yield directory, None
    yield f"etc/apk/keys/{repository.key_name}", repository.public_key
    for path in (repository.index, *(package.path for package in repository.packages)):
        yield f"pakman/new/{repository.arch}/{path.name}", path
    if previous is not None:
        yield "pakman/old", None
        yield f"pakman/old/{repository.arch}", None
        for path in sorted((previous.directory / repository.arch).glob("*")):
            if path.suffix == ".apk" or path.name == repository.index.name:
                yield f"pakman/old/{repository.arch}/{path.name}", path
        yield f"etc/apk/keys/{previous.public_key.name}", previous.public_key

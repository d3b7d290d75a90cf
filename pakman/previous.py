"""The version before the one under test: from a directory, an apk repository, the bucket, or the same files again.

Wherever it comes from, it ends as a small apk repository of its own that is signed with a key of its own: the machine
that upgrades trusts that key beside the one under test, whose name the earlier key may have had as well.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pakman import addresses, signing, version
from pakman import repository as built
from pakman.apk.index import MAX_FILE, Index, Stanza, read_index, write_local_index
from pakman.apk.older import write_older
from pakman.apk.output import writing
from pakman.apk.read import read_control
from pakman.apk.signature import resign, signed_by
from pakman.errors import BucketError, UsageError
from pakman.repository import INDEX_FILE, Repository

if TYPE_CHECKING:  # boto3 takes half a second to import, requests a tenth: see _online
    from pakman.bucket import Bucket

KEY_NAME = "pakman-previous.rsa.pub"
_MOST_OF_A_PACKAGE = 4 << 30
_PATIENCE = 600
"""Seconds for one file."""
_LISTED = 20_000
"""Objects of a project in the bucket that are looked at: four or five of each of some thousand commits."""

Fetch = Callable[[str, IO[bytes], int], None]
"""Writes a file of a repository (`x86_64/APKINDEX.tar.gz`) that has at most so many bytes; raises _NoneError."""


@dataclass(frozen=True, slots=True)
class Previous:
    """What a machine has before it upgrades to what is under test."""

    directory: Path
    """An apk repository; <arch>/APKINDEX.tar.gz is in it."""
    version: str
    """The main package's, lower than that of the one under test."""
    public_key: Path
    """What all of it is signed with; the file's name is the key's."""
    source: str
    """The address or directory that it comes from; empty where it is the package under test, rebuilt."""


class _NoneError(Exception):
    """There is nothing older to be had; the text says why."""


def choose(
    repository: Repository,
    given: str | None,
    directory: Path,
    *,
    clock: Callable[[], float],
    on_warning: Callable[[str], None],
) -> Previous:
    """Return the newest version, of those that are older, in `given`: what `pakman build` left, or an address.

    Where it has none that can be trusted, that is a warning, and the package under test itself is rebuilt under a lower
    version, as it is where nothing is given. `directory` is an empty one for the files; `clock` counts seconds.
    Raises UsageError where `given` names neither.
    """
    if given is None:
        return rebuilt(repository, directory)
    if "://" in given:
        return _else_rebuilt(repository, directory, on_warning, lambda: _online(repository, given, directory, clock))
    return _else_rebuilt(repository, directory, on_warning, lambda: _local(repository, Path(given), directory))


def in_bucket(
    repository: Repository, bucket: Bucket, directory: Path, *, on_warning: Callable[[str], None]
) -> Previous:
    """Return what was pushed last of the project that is older, as `choose` does; a first push is no warning."""

    def fetched() -> Previous:
        with closing(bucket):
            folder = _pushed_last(repository, bucket)
            return _taken(repository, bucket.url(folder), _from_bucket(bucket, folder), _keys(repository), directory)

    return _else_rebuilt(repository, directory, on_warning, fetched)


def rebuilt(repository: Repository, directory: Path) -> Previous:
    """Return the packages of a repository under the version before theirs."""
    key = signing.generate(KEY_NAME)
    folder = directory / "rebuilt" / repository.arch
    with writing(folder):
        folder.mkdir(parents=True)
    packages = write_older(repository.packages, folder, [key])
    return _indexed(folder, [each.path for each in packages], packages[0].version, key, "")


def _else_rebuilt(
    repository: Repository, directory: Path, on_warning: Callable[[str], None], taken: Callable[[], Previous]
) -> Previous:
    try:
        return taken()
    except _NoneError as reason:
        found = rebuilt(repository, directory)
        if str(reason):
            on_warning(f"{reason}: the upgrade is tried from the same package, rebuilt as {found.version}")
        return found


def _online(repository: Repository, url: str, directory: Path, clock: Callable[[], float]) -> Previous:
    import requests

    from pakman.download import UnreachableError, download

    shown = addresses.without_password(url).rstrip("/")
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise UsageError(
            f"--previous is {shown!r}, which is neither a directory nor an address of http or https",
            hint="write what a line of /etc/apk/repositories would have: https://packages.example.com/shop",
        )

    with requests.Session() as session:

        def fetch(name: str, file: IO[bytes], most: int) -> None:
            try:
                address = f"{url.rstrip('/')}/{name}"
                download(session, address, file, most=most, seconds=_PATIENCE, clock=clock)
            except UnreachableError as error:
                raise _NoneError(str(error)) from error

        return _taken(repository, shown, fetch, _keys(repository), directory)


def _local(repository: Repository, source: Path, directory: Path) -> Previous:
    there = next((each for each in built.read(source) if each.arch == repository.arch), None)
    if there is None:
        raise _NoneError(f"{source} has no packages for {repository.arch}")

    def fetch(name: str, file: IO[bytes], _most: int) -> None:
        try:
            with (source / name).open("rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)
        except OSError as error:
            raise _NoneError(f"{source / name} cannot be read ({error.strerror})") from error

    return _taken(repository, str(source), fetch, _keys(there), directory)


def _keys(repository: Repository) -> tuple[signing.PublicKey, ...]:
    return tuple(map(signing.read_public, repository.public_keys))


def _taken(
    repository: Repository, source: str, fetch: Fetch, trusted: Sequence[signing.PublicKey], directory: Path
) -> Previous:
    """Fetch what is older than a repository's main package, and all that was made with it."""
    folder = directory / "taken" / repository.arch
    with writing(folder):
        folder.mkdir(parents=True)
    index = _index(folder / INDEX_FILE, repository.arch, source, fetch)
    if not any(signed_by(key, index.signatures, index.digests) for key in trusted):
        names = " or ".join(key.name for key in trusted)
        raise _NoneError(f"the index of {source} is not signed with {names}, which is what is known here")
    stanzas = _older(index.stanzas, repository, source)
    paths = [_package(each, folder, repository.arch, source, fetch) for each in stanzas]
    key = signing.generate(KEY_NAME)
    for path in paths:
        resign(path, [key])
    return _indexed(folder, paths, stanzas[0].version, key, source)


def _index(path: Path, arch: str, source: str, fetch: Fetch) -> Index:
    with writing(path), path.open("wb") as file:
        fetch(f"{arch}/{INDEX_FILE}", file, MAX_FILE)
    try:
        return read_index(path)
    except UsageError as error:
        raise _NoneError(f"the index of {source}{error.message.removeprefix(str(path))}") from error


def _older(stanzas: Sequence[Stanza], repository: Repository, source: str) -> list[Stanza]:
    """Return the newest of the main package that is older, then what comes from the same recipe."""
    main = repository.packages[0]
    valid = [each for each in stanzas if _NAME.fullmatch(each.name) and version.is_valid(each.version)]
    older = [each for each in valid if each.name == main.name and version.compare(each.version, main.version) < 0]
    if not older:
        raise _NoneError(f"{source} has no {main.name} that is older than {main.version}")
    newest = max(older, key=lambda each: version.sort_key(each.version))
    beside = {each.name: each for each in valid if _recipe(each) == _recipe(newest) and each.name != newest.name}
    return [newest, *beside.values()]


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def _recipe(stanza: Stanza) -> tuple[str, str]:
    return stanza.field("o"), stanza.version


def _package(stanza: Stanza, folder: Path, arch: str, source: str, fetch: Fetch) -> Path:
    """Fetch a package; what its index says of it is what it must be."""
    path = folder / f"{stanza.name}-{stanza.version}.apk"
    size = stanza.field("S")
    if not re.fullmatch(r"[0-9]{1,12}", size) or int(size) > _MOST_OF_A_PACKAGE:
        raise _NoneError(f"{path.name} of {source} has {size} bytes, which is too much")
    with writing(path), path.open("wb") as file:
        fetch(f"{arch}/{path.name}", file, int(size))
    try:
        is_it = path.stat().st_size == int(size) and read_control(path).checksum == stanza.checksum
    except UsageError:
        is_it = False
    if not is_it:
        raise _NoneError(f"{path.name} of {source} is not the package that its index names")
    return path


def _indexed(folder: Path, packages: Sequence[Path], found: str, key: signing.SigningKey, source: str) -> Previous:
    write_local_index(folder / INDEX_FILE, packages, [key], "previous", folder.name)
    public_key = folder.parent / key.name
    with writing(public_key):
        public_key.write_bytes(key.public_pem)
    return Previous(folder.parent, found, public_key, source)


def _pushed_last(repository: Repository, bucket: Bucket) -> str:
    """Return the key of the repository that an older main package was pushed into last."""
    main = repository.packages[0]
    top = bucket.location.key("deployments", repository.owner, repository.slug)
    try:
        stored = bucket.list(f"{top}/", most=_LISTED)
    except BucketError as error:
        raise _NoneError(error.message) from error
    if stored is None:
        raise _NoneError(f"the credentials may not list what {bucket.location} has of earlier versions")
    pattern = re.compile(f"({re.escape(top)}/[^/]+)/{re.escape(repository.arch)}/{re.escape(main.name)}-([^/]+)[.]apk")
    found = [
        (stored[key].modified, match[1])
        for key in stored
        if (match := pattern.fullmatch(key)) is not None
        and version.is_valid(match[2])
        and version.compare(match[2], main.version) < 0
        # The index comes last: without it, a push has not come to its end.
        and f"{match[1]}/{repository.arch}/{INDEX_FILE}" in stored
    ]
    if not found:
        raise _NoneError
    return max(found)[1]


def _from_bucket(bucket: Bucket, folder: str) -> Fetch:
    def fetch(name: str, file: IO[bytes], most: int) -> None:
        try:
            bucket.download(f"{folder}/{name}", file, most)
        except BucketError as error:
            raise _NoneError(error.message) from error

    return fetch

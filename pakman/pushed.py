"""What the jobs of a matrix have pushed of a commit, fetched from the bucket and checked.

The public key in the bucket vouches for an index, the index for the control segment of each package, that one for the
data behind it. packages.json, which nobody signs, has to agree with all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pakman import archive, pem, repository, signing
from pakman.apk.index import MAX_FILE, Stanza, read_index
from pakman.apk.package import Package
from pakman.apk.read import data_is_true, read_control
from pakman.apk.signature import signed_by
from pakman.bucket import Bucket, Stored, content
from pakman.bucket.pool import Counter, OnProgress, workers
from pakman.errors import BucketError, SigningError, UsageError
from pakman.repository import INDEX_FILE, MANIFEST_FILE, MOST_BYTES, Repository
from pakman.signing import PublicKey

_AGAIN = "remove what is there of this commit and push it again"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a project."""

    owner: str
    slug: str
    sha: str

    def folder(self, bucket: Bucket) -> str:
        """Return the key of its repository."""
        return bucket.location.key("deployments", self.owner, self.slug, self.sha)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What there is of a commit."""

    repositories: tuple[Repository, ...]
    """Those that were expected, sorted by architecture: on this machine, as `pakman build` left them."""
    more: tuple[str, ...]
    """Further architectures that have arrived."""


def fetch(
    bucket: Bucket,
    commit: Commit,
    expected: Collection[str],
    directory: Path,
    *,
    on_progress: OnProgress = lambda *_: None,
) -> Pushed:
    """Fetch what was pushed of a commit for these architectures into an empty directory, and check it.

    Raises BucketError where one of them has not arrived, and for all that is not as it was pushed.
    """
    folder = commit.folder(bucket)
    names = archive.listed(bucket, folder)
    there = archive.architectures_in(names)
    _refuse_missing(bucket, folder, names, there, expected)
    with _told(bucket, directory, folder):
        for arch in sorted(expected):
            (directory / arch).mkdir(parents=True)
            for name, most in ((MANIFEST_FILE, MOST_BYTES), (INDEX_FILE, MAX_FILE)):
                _fetch(bucket, f"{folder}/{arch}/{name}", directory / arch / name, most)
        found = tuple(map(_renamed, repository.read(directory)))
        for each in found:
            _refuse_another(each, commit)
            for file in each.public_keys:
                _fetch(bucket, bucket.location.key("keys", file.name), file, pem.MOST_BYTES)
        _fetch_packages(bucket, folder, names, found, on_progress)
    return Pushed(found, tuple(sorted(there - set(expected))))


def _refuse_missing(
    bucket: Bucket, folder: str, names: Mapping[str, Stored], there: Collection[str], expected: Collection[str]
) -> None:
    missing = sorted(set(expected) - set(there))
    if missing:
        begun = [arch for arch in missing if any(name.startswith(f"{arch}/") for name in names)]
        has = f"packages for {_listed(there)}, but none" if there else "no packages"
        raise BucketError(
            f"{folder} in {bucket.location} has {has} for {_listed(missing)} yet"
            + (f" (of {_listed(begun)} a part: the index, which comes last, is missing)" if begun else ""),
            hint="push what is missing from the same commit (`pakman push`, `pakman run`), then run `pakman release` "
            "again: did a job of the matrix fail, or is one still at work? if it is not to be built, leave it out of "
            "--expect"
            if names
            else archive.NOTHING_THERE,
        )
    for arch in expected:
        if f"{arch}/{MANIFEST_FILE}" not in names:
            raise BucketError(
                f"{folder}/{arch} in {bucket.location} has no {MANIFEST_FILE}, which says what was pushed",
                hint="push it again, with this version of pakman",
            )


def _listed(architectures: Collection[str]) -> str:
    return " and ".join(sorted(architectures))


@contextmanager
def _told(bucket: Bucket, directory: Path, folder: str) -> Iterator[None]:
    """Say of the bucket what is wrong with the copy here."""
    try:
        yield
    except (UsageError, SigningError) as error:
        message = error.message.replace(str(directory), folder)
        raise BucketError(f"in {bucket.location}, {message}", hint=_AGAIN) from error
    except OSError as error:
        raise BucketError(
            f"what is in {bucket.location} cannot be fetched to {directory}: {error.strerror or error}",
            hint="it takes twice as much room as all packages together: name a folder that has that in TMPDIR",
        ) from error


def _fetch(bucket: Bucket, key: str, path: Path, most: int) -> None:
    """Fetch a small object."""
    held = bucket.read(key, most)
    if held is None:
        raise BucketError(f"{key} in {bucket.location} is not there", hint=_AGAIN)
    path.write_bytes(held.body)


def _renamed(found: Repository) -> Repository:
    """Call each file what its object is called."""
    folder = found.directory / found.arch
    return replace(
        found, packages=tuple(replace(each, path=folder / f"{each.name}-{each.version}.apk") for each in found.packages)
    )


def _refuse_another(found: Repository, commit: Commit) -> None:
    path = found.manifest_file
    if path.parent.name != found.arch or (found.owner, found.slug, found.commit) != (
        commit.owner,
        commit.slug,
        commit.sha,
    ):
        raise UsageError(
            f"{path} is of {found.owner}/{found.slug} {found.commit} for {found.arch}, not of what it lies in"
        )
    if not found.packages:
        raise UsageError(f"{path} names no packages")


def _fetch_packages(
    bucket: Bucket,
    folder: str,
    names: Mapping[str, Stored],
    found: tuple[Repository, ...],
    on_progress: OnProgress,
) -> None:
    counter = Counter(sum(package.size for each in found for package in each.packages), on_progress)

    def fetched(package: Package, arch: str, stanza: Stanza, keys: Sequence[PublicKey]) -> None:
        title = f"{arch}/{package.path.name}"
        stored = names.get(title)
        if stored is None:
            raise UsageError(f"{package.path} is missing, though its index names it")
        if stored.size == package.size:
            with package.path.open("xb") as file:
                bucket.download(f"{folder}/{title}", file, package.size, partial(counter.add, title))
        if stored.size != package.size or content.read(package.path).sha256 != package.sha256:
            raise UsageError(f"{package.path} has another size or SHA-256 than {MANIFEST_FILE} says")
        _check(package, stanza, keys)

    with workers(bucket.concurrency) as (files, _):
        fetches = []
        for each in found:
            keys = tuple(map(signing.read_public, each.public_keys))
            stanzas = _stanzas(each, keys)
            fetches += [
                files.submit(fetched, package, each.arch, stanzas[package.path.name], keys) for package in each.packages
            ]
        for one in fetches:
            one.result()


def _stanzas(found: Repository, keys: Sequence[PublicKey]) -> dict[str, Stanza]:
    """Return the index's entries, by the file's name: each key has signed it; it names what packages.json names."""
    index = read_index(found.index)
    for key in keys:
        if signed_by(key, index.signatures, index.digests) is None:
            raise UsageError(f"{found.index} is not signed with {key.name}, as {MANIFEST_FILE} says it is")
    named = {f"{each.name}-{each.version}.apk": each for each in index.stanzas}
    ours = {each.path.name: each for each in found.packages}
    is_same = set(named) == set(ours) and len(named) == len(index.stanzas) == len(found.packages)
    if not is_same or any(
        (named[name].field("A"), named[name].field("S")) != (found.arch, str(ours[name].size)) for name in ours
    ):
        raise UsageError(f"{found.index} and {MANIFEST_FILE} name different packages")
    return named


def _check(package: Package, stanza: Stanza, keys: Sequence[PublicKey]) -> None:
    """Refuse a package that its index does not vouch for, or that another key has signed."""
    path = package.path
    control = read_control(path)
    if control.checksum != stanza.checksum:
        raise UsageError(f"{path} is not the package that its index names: its checksum is {control.checksum}")
    for key in keys:
        if signed_by(key, control.signatures, control.digests) is None:
            raise UsageError(f"{path} is not signed with {key.name}, as its index is")
    if control.metadata.arch != package.arch:
        raise UsageError(f"{path} is for {control.metadata.arch}, but {MANIFEST_FILE} says {package.arch}")
    if not data_is_true(path, control):
        raise UsageError(f"{path} has been changed: its data is not what its control segment says it is")

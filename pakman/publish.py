"""The publication, told in one function: a built repository becomes one that apk can read from a bucket.

<prefix>/deployments/<owner>/<slug>/<commit>/<arch>/<name>-<version>.apk
<prefix>/deployments/<owner>/<slug>/<commit>/<arch>/packages.json
<prefix>/deployments/<owner>/<slug>/<commit>/<arch>/APKINDEX.tar.gz
<prefix>/keys/<key name>

None of these is ever replaced: machines cache them, and an index vouches for the very bytes of its packages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pakman import pem
from pakman.bucket import Bucket, Stored, content
from pakman.bucket.content import Content
from pakman.bucket.location import Location
from pakman.bucket.pool import Counter, OnProgress, workers
from pakman.errors import BucketError, UsageError
from pakman.repository import INDEX_FILE, MANIFEST_FILE, MOST_BYTES, Repository, parse

OnNotice = Callable[[str], None]
"""Called with a sentence."""

_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a repository has come to lie: what a line in /etc/apk/repositories names, and the key it wants."""

    repository_path: str
    """The key of the repository in the bucket; below it are <arch>/APKINDEX.tar.gz and the packages."""
    repository_url: str
    public_key_path: str
    public_key_url: str
    uploaded: tuple[str, ...]
    """The keys of the objects that are new (in a plan: that would be), in the order of the files; indexes last."""
    skipped: tuple[str, ...]
    """The keys of those that were there already, with the same bytes."""

    def as_json(self) -> dict[str, Any]:
        """Return this as what `json.dumps` takes."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Object:
    """A file and the object it becomes."""

    kind: Literal["package", "key", "manifest", "index"]
    path: Path
    key: str
    title: str
    size: int | None = None
    sha256: str | None = None
    """What packages.json says of the file; None of what it does not name."""

    @property
    def content_type(self) -> str:
        # Not application/gzip: somebody on the way might unpack it.
        return {"key": "text/plain; charset=utf-8", "manifest": "application/json"}.get(
            self.kind, "application/octet-stream"
        )

    @property
    def cache_control(self) -> str:
        return "no-cache" if self.kind == "index" else _FOR_EVER


def publish(
    repositories: tuple[Repository, ...],
    bucket: Bucket,
    *,
    on_progress: OnProgress = lambda _what, _done, _total: None,
    on_notice: OnNotice = lambda _sentence: None,
    dry_run: bool = False,
) -> Publication:
    """Ship the repositories that one build left, an entry per architecture, and return where they are.

    Everything is looked at first, here and in the bucket: what cannot be done is refused before anything is stored.
    Then come the packages, side by side, the public keys, each packages.json, and last the indexes, so that no index
    ever names an object that is not there. What is there already with the same bytes is skipped: a push that was killed
    is finished by running it again; so may one of another pakman, where it makes the same packages: the packages.json
    that came first stays, and `on_notice` is told. A `dry_run` ends where something would be stored.

    Raises UsageError for files that are not what they should be, BucketError for the rest.
    """
    commit = _check(repositories)
    first = repositories[0]
    folder = ("deployments", first.owner, first.slug, commit)
    path = bucket.location.key(*folder)
    objects = _objects(repositories, bucket.location, folder)
    # One thread reads files: enough to be ahead of a line, and no crowd before the one that imports boto3.
    with closing(bucket), workers(bucket.concurrency) as (files, parts), workers(1) as (checks, _):
        contents = {item: _content(item) for item in objects}
        by_size = sorted(objects, key=lambda item: -contents[item].size)
        checked = [checks.submit(_check_content, item, contents[item]) for item in by_size]
        # The parts of large packages go ahead of it: there is no object before they are put together.
        all_checked = files.submit(lambda: [each.result() for each in checked])
        refuse = partial(_refuse, bucket, on_notice)
        missing = _missing(bucket, contents, _found(bucket, path, objects), files, refuse)
        if dry_run:
            all_checked.result()
            return _publication(bucket, first, path, objects, missing)
        progress = Counter(sum(contents[item].size for item in missing), on_progress)
        store = partial(_store, bucket, parts, progress, all_checked, refuse)
        uploaded: set[_Object] = set()
        for kind in ("package", "key", "manifest", "index"):
            chosen = [item for item in missing if item.kind == kind]
            # The small ones fill the gaps; the other way round one large one is left alone at the end.
            chosen.sort(key=lambda item: -contents[item].size)
            uploads = {files.submit(store, item, contents[item]): item for item in chosen}
            uploaded |= {uploads[upload] for upload in as_completed(uploads) if upload.result()}
        all_checked.result()
        if in_parts := {item.key for item, content in contents.items() if content.parts > 1}:
            bucket.abort_left_behind(path.rpartition("/")[0], in_parts)
    return _publication(bucket, first, path, objects, uploaded)


def _publication(
    bucket: Bucket, repository: Repository, path: str, objects: Iterable[_Object], new: Collection[_Object]
) -> Publication:
    return publication_of(
        bucket,
        repository,
        path,
        uploaded=tuple(item.key for item in objects if item in new),
        skipped=tuple(item.key for item in objects if item not in new),
    )


def publication_of(
    bucket: Bucket, repository: Repository, path: str, *, uploaded: tuple[str, ...], skipped: tuple[str, ...]
) -> Publication:
    """Return where a repository is, whose key is `path`, and which objects are new."""
    key_path = bucket.location.key("keys", repository.key_name)
    return Publication(
        repository_path=path,
        repository_url=bucket.url(path),
        public_key_path=key_path,
        public_key_url=bucket.url(key_path),
        uploaded=uploaded,
        skipped=skipped,
    )


def refuse_without_commit(commit: str | None, what: str) -> str:
    """Return the commit that packages are filed under; raise UsageError where there is none."""
    if commit is None:
        raise UsageError(
            f"{what} has no commit to file its packages under",
            hint="`git init` unless it is in a git repository, commit, and build again; a job on GitHub has GITHUB_SHA",
        )
    return commit


def _check(repositories: tuple[Repository, ...]) -> str:
    """Return the commit that all of them were built from."""
    if not repositories:
        raise UsageError("there is no repository to push", hint="run `pakman build` first")
    for repository in repositories:
        if not repository.packages:
            raise UsageError(
                f"{repository.directory / repository.arch} has no packages to push", hint="run `pakman build` again"
            )
    first = repositories[0]
    for other in repositories[1:]:
        for name in ("owner", "slug", "commit", "key_name", "previous_key_name"):
            ours, theirs = getattr(first, name), getattr(other, name)
            if ours != theirs:
                raise UsageError(
                    f"{first.directory} holds two builds: {name.replace('_', ' ')} is {ours or 'none'} for "
                    f"{first.arch}, but {theirs or 'none'} for {other.arch}",
                    hint="build all architectures from one commit, into an empty directory",
                )
    return refuse_without_commit(first.commit, f"what {first.directory} was built from")


def refuse_another_key(bucket: Bucket, name: str, public_pem: bytes) -> None:
    """Raise BucketError where the bucket has another public key of this name; said before a long build."""
    key = bucket.location.key("keys", name)
    there = bucket.sha256(key)
    if there is not None and there != hashlib.sha256(public_pem).hexdigest():
        raise _refusal(bucket, "key", key)


def _refuse(bucket: Bucket, on_notice: OnNotice, item: _Object) -> None:
    """Raise BucketError for an object that is there with other bytes; not where it says the same of the same packages.

    That is a packages.json which differs in what packed them: whoever runs a job again after an upgrade of pakman.
    """
    held = bucket.read(item.key, MOST_BYTES) if item.kind == "manifest" else None
    if held is not None:
        with suppress(UsageError):
            theirs, ours = (
                parse(body, item.path.parent.parent, item.path) for body in (held.body, item.path.read_bytes())
            )
            if replace(theirs, builder=ours.builder) == ours:
                on_notice(f"{item.key} stays as it is: {_maker(theirs)} has made the same packages as {_maker(ours)}")
                return
            raise _refusal(bucket, item.kind, item.key, _another_application(theirs, ours))
    raise _refusal(bucket, item.kind, item.key)


def _another_application(theirs: Repository, ours: Repository) -> str | None:
    """Return what to do where a commit has two applications that are to be one project's; None where it has not."""
    if not theirs.packages or theirs.packages[0].name == ours.packages[0].name:
        return None
    return (
        f"{theirs.packages[0].name} of this commit is there already, and this is {ours.packages[0].name}: give each "
        "application of a repository its own --project OWNER/NAME, or its own --prefix"
    )


def _maker(repository: Repository) -> str:
    return f"pakman {repository.builder.pakman} (builder: {repository.builder.name})"


def _objects(repositories: Iterable[Repository], location: Location, folder: tuple[str, ...]) -> tuple[_Object, ...]:
    """Return all that has to be in the bucket: packages, the keys, each packages.json, indexes."""
    packages, manifests, indexes, keys = [], [], [], {}
    for repository in repositories:
        arch = repository.arch
        for package in repository.packages:
            # apk makes the file's name of what the index says, so ours says the same, whatever the file is called.
            name = f"{package.name}-{package.version}.apk"
            key = location.key(*folder, arch, name)
            packages.append(_Object("package", package.path, key, f"{arch}/{name}", package.size, package.sha256))
        key = location.key(*folder, arch, MANIFEST_FILE)
        manifests.append(_Object("manifest", repository.manifest_file, key, f"{arch}/{MANIFEST_FILE}"))
        key = location.key(*folder, arch, INDEX_FILE)
        indexes.append(_Object("index", repository.index, key, f"{arch}/{INDEX_FILE}"))
        for file in repository.public_keys:
            key = location.key("keys", file.name)
            keys[key] = _Object("key", file, key, file.name)
    return (*packages, *keys.values(), *manifests, *indexes)


def _content(item: _Object) -> Content:
    """Return a file's content: a package's as packages.json announces it, so that it can be read meanwhile."""
    with _readable(item):
        if item.sha256 is not None:
            return content.announced(item.path, item.sha256)
        # In one part, whatever its size: an index is one or another, never in between.
        return content.read_whole(item.path)


def _check_content(item: _Object, announced: Content) -> None:
    """Read a package and compare it with what packages.json says of it."""
    with _readable(item):
        if item.sha256 is None or (item.size == announced.size and announced.is_true()):
            return
    raise UsageError(
        f"{item.path} is not the file that was built: packages.json knows it with another size or SHA-256",
        hint="run `pakman build` again, into an empty directory",
    )


@contextmanager
def _readable(item: _Object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{item.path} cannot be read: {error.strerror}", hint="run `pakman build` again, into an empty directory"
        ) from error


def _found(bucket: Bucket, path: str, objects: tuple[_Object, ...]) -> dict[str, Stored]:
    """Return which of the objects are there."""
    found = bucket.list(f"{path}/")
    if found is not None:
        for item in objects:
            if item.kind == "key":
                found |= bucket.list(item.key) or {}
        return found
    # Credentials that may not list can still ask for each.
    heads = {item.key: bucket.head(item.key) for item in objects}
    return {key: stored for key, stored in heads.items() if stored is not None}


def _missing(
    bucket: Bucket,
    contents: Mapping[_Object, Content],
    found: Mapping[str, Stored],
    files: Executor,
    refuse: Callable[[_Object], object],
) -> list[_Object]:
    """Return the objects that are not there; `refuse` those that are there with other bytes."""
    there = [item for item in contents if item.key in found]
    same = files.map(lambda item: bucket.holds(item.key, contents[item], found[item.key]), there)
    for item, holds in zip(there, same, strict=True):
        if not holds:
            refuse(item)
    return [item for item in contents if item.key not in found]


_REFUSALS = {
    "package": "a commit's packages never change, and another key, what is not committed, or another version of pakman "
    "makes others of it: push a new commit, or remove the objects of this one first",
    "manifest": "this commit was pushed before with another version, release, stack or key (a tag and a branch, say, "
    "or the workflow's next run), or with changes that are not committed: push a new commit, or remove the objects of "
    "this one first",
    "index": "this commit was pushed before with another version, release or key, or with changes that are not "
    "committed: push a new commit, or remove the objects of this one first",
    "key": "machines trust a key by its name. Sign with the key that was used before: the private half of this file. "
    f"Is yours one of `pakman keygen --rotate`? Then its text begins with a line {pem.NAME_FIELD}:, which is missing. "
    "Is that lost, push with another --prefix, whose address and key machines then take anew; or remove this file and "
    "all that was signed with it, and give every machine the new one",
}


def _refusal(bucket: Bucket, kind: str, key: str, hint: str | None = None) -> BucketError:
    return BucketError(
        f"{key} is in s3://{bucket.location.name} already, with other bytes: nothing was overwritten",
        hint=hint or _REFUSALS[kind],
    )


def _store(
    bucket: Bucket,
    parts: Executor,
    progress: Counter,
    all_checked: Future[Any],
    refuse: Callable[[_Object], object],
    item: _Object,
    found: Content,
) -> bool:
    """Store one object; return whether it is ours, and not another push's with the same bytes."""
    outcome = bucket.put_new(
        item.key,
        found,
        content_type=item.content_type,
        cache_control=item.cache_control,
        parts=parts,
        on_bytes=lambda count: progress.add(item.title, count),
        before_it_shows=all_checked.result,
    )
    if outcome == "different":
        refuse(item)
    return outcome == "stored"

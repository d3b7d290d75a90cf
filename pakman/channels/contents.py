"""What lies in a channel: its objects by what they are for, and the keys that its bucket tells machines to trust."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO

from pakman import pem, signing
from pakman.apk.index import MAX_FILE, parse_index
from pakman.bucket import Bucket, Stored
from pakman.channels import FOR_EVER, NAME, Channel
from pakman.errors import BucketError, SigningError, UsageError
from pakman.names import ARCHITECTURES
from pakman.repository import INDEX_FILE
from pakman.signing import PublicKey, SigningKey

PRUNED = "pruned"
"""The folder of tombstones: `pruned/<arch>/<file>`."""
LATEST = "latest"
_PACKAGE = re.compile(r"([a-z0-9_]+)/[A-Za-z0-9._~+-]+\.apk")
UNNAMED = "signing-key.rsa.pub"
"""What a signing key is called that carries no name, until the bucket says what it is."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The objects of a channel at one moment, each by `<arch>/<file>`."""

    packages: Mapping[str, Stored]
    tombstones: Mapping[str, Stored]
    latest: Mapping[str, Stored]


def contents(channel: Channel) -> Contents:
    """Return what a listing says. Raises BucketError where the credentials allow none."""
    stored = channel.bucket.list(f"{channel.path}/")
    if stored is None:
        raise no_listing(channel.bucket)
    by_name = {key.removeprefix(f"{channel.path}/"): each for key, each in stored.items()}
    return Contents(
        packages=_packages(by_name),
        tombstones=_packages(_below(by_name, PRUNED)),
        latest=_packages(_below(by_name, LATEST)),
    )


def _below(stored: Mapping[str, Stored], folder: str) -> dict[str, Stored]:
    return {name.removeprefix(f"{folder}/"): each for name, each in stored.items() if name.startswith(f"{folder}/")}


def _packages(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    found = {name: _PACKAGE.fullmatch(name) for name in stored}
    return {name: stored[name] for name, match in found.items() if match is not None and match[1] in ARCHITECTURES}


def no_listing(bucket: Bucket) -> BucketError:
    """Return the error for credentials that may not list."""
    return BucketError(
        f"the credentials may not list what is in {bucket.location}",
        hint="what is there is known from a listing: they need s3:ListBucket",
    )


def names(bucket: Bucket) -> tuple[str, ...]:
    """Return the names of the channels that a bucket has, sorted."""
    found = bucket.folders(bucket.location.key("channels") + "/")
    if found is None:
        raise no_listing(bucket)
    return tuple(each for each in found if NAME.fullmatch(each))


def refuse_unknown(bucket: Bucket, name: str) -> None:
    """Raise BucketError where a bucket has no such channel."""
    known = names(bucket)
    if name not in known:
        raise BucketError(
            f"{bucket.location} has no channel {name}",
            hint=f"it has {', '.join(known)}"
            if known
            else "it has none: `pakman push --channel NAME` makes one; or is it another --prefix?",
        )


def published_keys(bucket: Bucket) -> tuple[PublicKey, ...]:
    """Return the public keys in a bucket's folder `keys`; what is none is passed over."""
    folder = bucket.location.key("keys") + "/"
    stored = bucket.list(folder)
    if stored is None:
        raise no_listing(bucket)
    found = []
    for key in sorted(stored):
        held = bucket.read(key, pem.MOST_BYTES) if stored[key].size <= pem.MOST_BYTES else None
        with suppress(SigningError):
            if held is not None:
                found.append(signing.load_public(held.body.decode("ascii", "replace"), key.removeprefix(folder)))
    return tuple(found)


def published(bucket: Bucket, keys: Sequence[SigningKey], channels: Iterable[str]) -> tuple[SigningKey, ...]:
    """Return signing keys under the names that their public halves have in the bucket.

    So nobody has to say again whose repository it is. Of several names that a key has, because applications share it,
    it is the one that it has signed these channels by. While keys are rotated, one that is not there yet comes to lie
    beside the other, by the name that it carries. Raises SigningError where the bucket has none of them.
    """
    there: dict[bytes, list[str]] = {}
    for each in published_keys(bucket):
        there.setdefault(each.pem, []).append(each.name)
    found = [
        replace(key, name=_name(bucket, key, there[key.public_pem], channels)) if key.public_pem in there else key
        for key in keys
    ]
    unknown = [key for key in found if key.public_pem not in there]
    if len(unknown) == len(keys) or any(key.name == UNNAMED for key in unknown):
        raise SigningError(
            f"the signing key is none of those that {bucket.location} has the public half of",
            hint="is it the right key, and the right --bucket and --prefix? what a bucket's indexes are signed with, "
            "`pakman push` has put into its folder keys",
        )
    for key in unknown:
        _publish(bucket, key)
    return tuple(found)


def _name(bucket: Bucket, key: SigningKey, there: Sequence[str], channels: Iterable[str]) -> str:
    """Return which of its names in the bucket a key has in these channels."""
    if key.name in there or len(there) == 1:
        return key.name if key.name in there else there[0]
    return next((each for name in channels for each in _signed_as(bucket, name) if each in there), there[0])


def _signed_as(bucket: Bucket, name: str) -> Iterator[str]:
    """Yield the names that a channel's indexes say they are signed by."""
    channel = Channel(bucket, name, ())
    for arch in channel.architectures():
        held = bucket.read(channel.key(arch, INDEX_FILE), MAX_FILE)
        if held is not None:
            with suppress(UsageError):  # whoever goes by it will say so
                yield from (each.key_name for each in parse_index(BytesIO(held.body), INDEX_FILE).signatures)


def _publish(bucket: Bucket, key: SigningKey) -> None:
    place = bucket.location.key("keys", key.name)
    stored = bucket.swap(
        place, key.public_pem, over=None, content_type="text/plain; charset=utf-8", cache_control=FOR_EVER
    )
    held = None if stored is not None else bucket.read(place, pem.MOST_BYTES)
    if held is not None and held.body != key.public_pem:
        raise SigningError(
            f"{place} in {bucket.location} is another key: nothing was overwritten",
            hint="machines know a key by its name: `pakman keygen --rotate` makes one under a name of its own",
        )

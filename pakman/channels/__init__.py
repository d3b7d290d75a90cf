"""A channel: a repository in the bucket that grows with every push, an index for each architecture.

<prefix>/channels/<channel>/<arch>/<name>-<version>.apk     never replaced
<prefix>/channels/<channel>/<arch>/APKINDEX.tar.gz          replaced under the condition that nobody was quicker
<prefix>/channels/<channel>/latest/<arch>/<name>.apk        a copy of the newest in the index
<prefix>/channels/<channel>/SHA256SUMS                      of all packages
<prefix>/channels/<channel>/install.sh
<prefix>/channels/<channel>/pruned/<arch>/<file>            see pakman.channels.tombstones

A channel belongs to one project: its indexes are signed with that project's key, and no other is ever merged into.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product

from pakman import pem, version
from pakman.apk import tar
from pakman.apk.index import MAX_FILE, Index, Stanza, parse_index, signed
from pakman.apk.signature import Signature, signed_by
from pakman.bucket import Bucket, Held
from pakman.errors import BucketError, UsageError
from pakman.names import ARCHITECTURES
from pakman.repository import INDEX_FILE
from pakman.signing import PublicKey, SigningKey

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PACKAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_CHECKSUM = re.compile(r"Q1[A-Za-z0-9+/]{27}=")
_SIZE = re.compile(r"[0-9]{1,15}")

FOR_EVER = "public, max-age=31536000, immutable"
MUTABLE = "no-cache"
_ATTEMPTS = 200
"""Of a change that others are always quicker with; sixteen pushes at once need about as many as they are."""
_LONGEST_WAIT = 1.0
"""Seconds between two attempts."""


@dataclass(frozen=True, slots=True)
class Live:
    """What an index in the bucket said at one moment, in any order; `etag` and `modified` as in Held."""

    stanzas: tuple[Stanza, ...]
    etag: str
    modified: float


def refuse_name(name: str, flag: str = "--channel") -> str:
    """Return a channel's name, which the command line has given as `flag`; raise UsageError where it can be none."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{flag} is {name[:80]!r}, which cannot be a channel's name",
            hint="write up to 63 lower-case letters, digits, '.', '_' and '-', e.g. stable or edge",
        )
    return name


class Channel:
    """One channel of a bucket.

    The first of `keys` signs its indexes first; what any of them has signed is trusted, and what `trusted` have signed:
    who only reads needs no more.
    """

    def __init__(
        self, bucket: Bucket, name: str, keys: Sequence[SigningKey], trusted: Sequence[PublicKey] = ()
    ) -> None:
        self.bucket = bucket
        self.name = refuse_name(name)
        self.keys = tuple(keys)
        self.trusted = (*(key.public_key() for key in self.keys), *trusted)
        self.signed_anew: set[str] = set()
        """The architectures whose index `edit` has found signed by other keys than these."""
        self.former: set[str] = set()
        """The names of the keys that had signed such an index, and do so no more."""
        self._verified: dict[str, tuple[bytes, Index]] = {}
        """By architecture, what was read last."""
        self._listed: tuple[str, ...] = ()
        """The folders that a listing had, once there was one."""

    @property
    def path(self) -> str:
        """The channel's key in the bucket, what a machine's list of repositories names."""
        return self.key()

    def key(self, *parts: str) -> str:
        """Return the key of an object of the channel."""
        return self.bucket.location.key("channels", self.name, *parts)

    def architectures(self) -> tuple[str, ...]:
        """Return the architectures that there is a folder of; where nobody may list, all that there may be one of."""
        there = self.bucket.folders(f"{self.path}/")
        self._listed = () if there is None else there
        return tuple(each for each in ARCHITECTURES if there is None or each in there)

    def index(self, arch: str) -> Live | None:
        """Return an index that one of our keys has signed; None where there is none yet.

        Raises BucketError for what is no index, what another key has signed, or one of ours under another name,
        what no package can be called, and what is there but may not be read.
        """
        key = self.key(arch, INDEX_FILE)
        held = self.bucket.read(key, MAX_FILE)
        # What may not be read looks as if it were not there, and what it names as if it might go. A first index may
        # just have come.
        if held is None and arch in self._listed and self.bucket.list(key):
            held = self.bucket.read(key, MAX_FILE)
            if held is None:
                raise BucketError(
                    f"{key} in {self.bucket.location} is there, but the credentials may not read it",
                    hint="they need s3:GetObject; is it another account's, or encrypted with a key that is not theirs?",
                )
        return None if held is None else Live(self._read(held, arch).stanzas, held.etag, held.modified)

    def _read(self, held: Held, arch: str) -> Index:
        """Return what `read_trusted` does; the same bytes are not read and verified once more."""
        known = self._verified.get(arch)
        if known is None or known[0] != held.body:
            where = f"{self.key(arch, INDEX_FILE)} in {self.bucket.location}"
            hint = _HINT_TO_CHANGE if self.keys else _HINT_TO_READ
            index = read_trusted(held, where, arch, self.trusted, hint)
            if self.keys and not any(_is_signed_as(key, index) for key in self._ours()):
                raise _another_name(where, index, self._ours())
            known = self._verified[arch] = held.body, index
        return known[1]

    def _ours(self) -> tuple[PublicKey, ...]:
        """Return the public halves of the keys that sign."""
        return self.trusted[: len(self.keys)]

    def edit(self, arch: str, change: Callable[[tuple[Stanza, ...]], Iterable[Stanza]]) -> Live:
        """Replace an index by what `change` makes of its stanzas, and return what is live then.

        Where others are quicker, `change` is asked again, with what they have made of it. What changes nothing stores
        nothing, unless other keys than ours have signed it. Raises BucketError as `index` does, and whatever `change`
        raises.
        """

        wanted: tuple[Stanza, ...] = ()

        def body(held: Held | None) -> bytes:
            nonlocal wanted
            live = None if held is None else self._read(held, arch)
            wanted = tuple(change(() if live is None else live.stanzas))
            if held is not None and live is not None:
                if not self._is_of_today(live):
                    self.signed_anew.add(arch)
                    self.former |= {each.key_name for each in live.signatures} - {key.name for key in self.keys}
                elif set(wanted) == set(live.stanzas):
                    return held.body
            # A large index is most of the work.
            return signed(wanted, self.keys, self.name, threads=len(os.sched_getaffinity(0)))

        held = self.rewrite(self.key(arch, INDEX_FILE), body, MAX_FILE, content_type="application/octet-stream")
        return Live(wanted, held.etag, held.modified)

    def _is_of_today(self, index: Index) -> bool:
        """Say whether our keys and no others have signed it: while keys are rotated, the new one has to."""
        ours = self._ours()
        return len(index.signatures) == len(ours) and all(_is_signed_as(key, index) for key in ours)

    def say_who_signs_no_more(self, on_notice: Callable[[str], None]) -> None:
        """Say whose machines get nothing more from an index that `edit` has replaced: not all may have the new key."""
        if self.former:
            names = " or ".join(key.name for key in self.keys)
            on_notice(
                f"channel {self.name} is no longer signed by {_listed(self.former)}: is that meant? A machine that has "
                f"no {names} yet is told UNTRUSTED signature, and keeps what it has; while keys are rotated, "
                "--previous-signing-key (the input is called so, too) lets both sign"
            )

    def rewrite(self, key: str, change: Callable[[Held | None], bytes], most: int, *, content_type: str) -> Held:
        """Replace an object by what `change` makes of it, and return what is there then.

        Raises BucketError where others are quicker again and again.
        """
        for attempt in range(_ATTEMPTS):
            held = self.bucket.read(key, most)
            body = change(held)
            if held is not None and body == held.body:
                return held
            etag = self.bucket.swap(
                key,
                body,
                over=None if held is None else held.etag,
                content_type=content_type,
                cache_control=MUTABLE,
            )
            if etag is not None:
                return Held(body, etag, 0)
            # All those that were too slow would be so again if they tried again together.
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.02 * 2 ** min(attempt, 8))))  # noqa: S311
        raise BucketError(
            f"{key} in {self.bucket.location} could not be replaced: again and again it had changed meanwhile",
            hint="run it again when fewer others do; if nobody does, the credentials may lack s3:GetObject",
        )


_HINT_TO_CHANGE = (
    "a channel belongs to one project and its key. Is that the key before this one? Then give it as "
    "--previous-signing-key (the input is called so, too). Is it another project's? Then name another channel, or "
    "another --prefix"
)
_HINT_TO_READ = (
    "the keys that are known lie in the bucket's folder keys, where whatever signs a channel has put them: "
    "somebody else has signed this"
)


def read_trusted(held: Held, where: str, arch: str, trusted: Sequence[PublicKey], hint: str) -> Index:
    """Return an index that one of these keys has signed; raises BucketError as `Channel.index` does.

    `hint` is what to do where another key has.
    """
    try:
        index = parse_index(BytesIO(held.body), where)
    except UsageError as error:
        raise BucketError(error.message, hint="remove it, and push what the channel should have again") from error
    if not any(signed_by(key, index.signatures, index.digests) for key in trusted):
        raise BucketError(
            f"{where} is signed by {signers(index.signatures)}, not by "
            f"{' or '.join(key.name for key in trusted) or 'a key that is known'}",
            hint=hint,
        )
    wrong = wrong_field(index.stanzas, arch)
    if wrong is not None:
        letter, value = wrong
        raise BucketError(
            f"{where} has an entry that no package of {arch} can have: {letter}:{value[:80]!r}",
            hint="it is not of pakman's making: remove it, and push what the channel should have again",
        )
    return index


def _is_signed_as(key: PublicKey, index: Index) -> bool:
    """Say whether a key has signed an index under its own name, by which machines look it up."""
    ours = tuple(each for each in index.signatures if each.key_name == key.name)
    return signed_by(key, ours, index.digests) is not None


def _another_name(where: str, index: Index, ours: Sequence[PublicKey]) -> BucketError:
    """Return the error for an index that one of these keys has signed under a name that it does not have here."""
    found = ((key, signed_by(key, index.signatures, index.digests)) for key in ours)
    key, name = next((key, tar.printable(each.key_name[:80])) for key, each in found if each is not None)
    return BucketError(
        f"{where} is signed by this very key as {name}, not as {key.name}: machines know a key by its name",
        hint=f"is it the same application, under a new owner or name? Then write the line `{pem.NAME_FIELD}: {name}` "
        "in front of -----BEGIN in the key's text. Is it another one, with the same key? Then name another channel, or "
        "another --prefix",
    )


def signers(signatures: Iterable[Signature]) -> str:
    """Return whom a file says it is signed by."""
    return _listed({each.key_name for each in signatures}) or "nobody"


def _listed(key_names: Iterable[str]) -> str:
    return " and ".join(sorted(tar.printable(each[:80]) for each in key_names))


def wrong_field(stanzas: Iterable[Stanza], arch: str) -> tuple[str, str] | None:
    """Return letter and value of a field that no package of this architecture can have; None where all are right.

    What an index names becomes keys of objects and files: a key may have been in wrong hands.
    """
    grammar: dict[str, Callable[[str], object]] = {
        "P": _PACKAGE.fullmatch,
        "V": version.is_valid,
        "A": arch.__eq__,
        "C": _CHECKSUM.fullmatch,
        "S": _SIZE.fullmatch,
        "o": lambda origin: not origin or _PACKAGE.fullmatch(origin),
    }
    for stanza, (letter, fits) in product(stanzas, grammar.items()):
        if not fits(stanza.field(letter)):
            return letter, stanza.field(letter)
    return None


def file_name(stanza: Stanza) -> str:
    """Return what apk fetches for an entry."""
    return f"{stanza.name}-{stanza.version}.apk"

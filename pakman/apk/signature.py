"""Signatures: the segment before the one that is signed, and what can make and check one.

`.SIGN.RSA.<key name>` holds RSA PKCS#1 v1.5 over SHA-1 of the next segment's compressed bytes; apk looks the key up as
/etc/apk/keys/<key name>. Of several signatures it takes the first whose key it finds there, and asks no other; so two
keys under one name are none. Source: abuild-sign, and apk-tools' `apk_sign_ctx_process_file` (2.14 and 3.0), which has
the other two, too.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pakman.apk import segments, tar
from pakman.apk.output import replacing
from pakman.errors import UsageError

ALGORITHMS = {"RSA": "sha1", "RSA256": "sha256", "RSA512": "sha512"}
"""What `.SIGN.<algorithm>.` says, and the digest that is signed. Pakman signs with the first, as Alpine does."""
MAX_SIGNATURE = 65536
_MOST_SIGNATURES = 16
_MAX_SEGMENT = 2 * _MOST_SIGNATURES * MAX_SIGNATURE
"""Bytes that a segment of them inflates to."""


class Signer(Protocol):
    """A private key."""

    @property
    def name(self) -> str:
        """The public key's file name."""

    def sign(self, sha1: bytes) -> bytes:
        """Return the signature of what has this digest."""


class Verifier(Protocol):
    """A public key."""

    @property
    def name(self) -> str:
        """The public key's file name."""

    def holds(self, signature: bytes, algorithm: str, digest: bytes) -> bool:
        """Say whether `signature` is this key's, of what has this digest by `algorithm` (hashlib's name)."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature as it stands in a file: a claim until a key was asked."""

    algorithm: str
    """A key of ALGORITHMS."""
    key_name: str
    value: bytes


def signature_segment(keys: Sequence[Signer], signed: bytes) -> bytes:
    """Return the segment that goes before the segment `signed`: a signature of each key, in their order."""
    return _segment(keys, hashlib.sha1(signed, usedforsecurity=False).digest())


def _segment(keys: Sequence[Signer], sha1: bytes) -> bytes:
    if not keys:
        raise ValueError("what no key signs has no signature")
    return b"".join(segments.compressed(piece for key in keys for piece in _entry(key, sha1)))


def _entry(key: Signer, sha1: bytes) -> tuple[bytes, bytes, bytes]:
    value = key.sign(sha1)
    # No time of its own: the same content under the same key is the same bytes, whenever it was signed.
    header = tar.Header(name=f".SIGN.RSA.{key.name}".encode(), type=tar.FILE, mode=0o644, size=len(value))
    return tar.encoded(header), value, tar.padding(len(value))


def read_signatures(segment: segments.Segments) -> tuple[Signature, ...]:
    """Return what a signature segment holds; raises TarError where it holds anything else."""
    found: list[Signature] = []
    for header, content in tar.entries(segment):
        _, mark, rest = header.name.partition(b".SIGN.")
        algorithm, _, key_name = rest.decode("utf-8", "backslashreplace").partition(".")
        if not mark or header.type != tar.FILE or len(found) >= _MOST_SIGNATURES:
            raise tar.TarError("the signature segment holds more than signatures")
        value = content.read(MAX_SIGNATURE)
        if algorithm in ALGORITHMS:
            found.append(Signature(algorithm, key_name, value))
    return tuple(found)


def is_signature_segment(file: IO[bytes]) -> bool:
    """Say whether a file begins with a signature segment; the file is left where it was."""
    start = file.tell()
    segment = segments.Segments(file)
    try:
        first = next(tar.entries(segment), None) if segment.begin(most=_MAX_SEGMENT) else None
        return first is not None and first[0].name.startswith(b".SIGN.")
    finally:
        file.seek(start)


def begin_signed(segment: segments.Segments, file: IO[bytes], most: int) -> tuple[Signature, ...]:
    """Read the signatures, if there are any, and begin the segment that they are over, hashed by their algorithms.

    That may inflate to `most` bytes. Raises SegmentError where no segment follows, TarError where the first one holds
    more than signatures.
    """
    found: tuple[Signature, ...] = ()
    if is_signature_segment(file):
        segment.begin(most=_MAX_SEGMENT)
        found = read_signatures(segment)
        segment.digests()
    if not segment.begin(*sorted({"sha1", *(ALGORITHMS[each.algorithm] for each in found)}), most=most):
        raise segments.SegmentError("it ends where its content should begin")
    return found


def resign(path: Path, keys: Sequence[Signer]) -> None:
    """Replace the signatures of a package or an index; all else stays as it is, byte by byte.

    Raises UsageError where the file is neither, BuildError where it cannot be written.
    """
    try:
        with path.open("rb") as file:
            segment = segments.Segments(file)
            if is_signature_segment(file):
                segment.begin(most=_MAX_SEGMENT)
                segment.digests()
            start = segment.offset
            if not segment.begin("sha1"):
                raise segments.SegmentError("nothing follows the signature")
            signature = _segment(keys, segment.digests()["sha1"])
            file.seek(start)
            with replacing(path) as out:
                out.write(signature)
                shutil.copyfileobj(file, out, 1 << 20)
    except (segments.SegmentError, tar.TarError) as error:
        raise UsageError(f"{path} is neither a package nor an index: {error}", hint="build it again") from error
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist") from error


def signed_by(key: Verifier, signatures: tuple[Signature, ...], digests: Mapping[str, bytes]) -> Signature | None:
    """Return the first signature that this key made, None where there is none."""
    for signature in signatures:
        algorithm = ALGORITHMS[signature.algorithm]
        if algorithm in digests and key.holds(signature.value, algorithm, digests[algorithm]):
            return signature
    return None

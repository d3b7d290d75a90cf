"""Read a package and check its chain: signature over control, control over data, data over each file.

It streams; memory is bounded whatever the file is. Who signed it is a claim until `signed_by` was asked with a key.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pakman.apk import tar
from pakman.apk.metadata import Metadata, parse_pkginfo
from pakman.apk.segments import SegmentError, Segments
from pakman.apk.signature import Signature, begin_signed
from pakman.apk.write import MAX_SCRIPT, SCRIPTS
from pakman.errors import SigningError, UsageError

_MAX_PKGINFO = 4 << 20
_MAX_CONTROL = 2 * _MAX_PKGINFO
"""Bytes that the control segment inflates to: with its scripts."""
_MAX_FILES = 500_000
_CHECKSUM = b"APK-TOOLS.checksum.SHA1"


@dataclass(frozen=True, slots=True)
class Control:
    """What a package says of itself, and what is needed to check who says so."""

    signatures: tuple[Signature, ...]
    metadata: Metadata
    scripts: Mapping[str, bytes]
    """By name, `.post-install` and so on."""
    digests: Mapping[str, bytes]
    """Of the control segment, by algorithm: what the signatures are over."""
    size: int
    """Bytes of the whole .apk."""
    data_offset: int
    """Where in it the data segment begins."""

    @property
    def checksum(self) -> str:
        """What an index calls the package by: Q1 and base64 of the control segment's SHA-1."""
        return "Q1" + base64.b64encode(self.digests["sha1"]).decode()


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file, directory or link in a package."""

    path: bytes
    """Relative to /, without a slash at the end."""
    type: bytes
    """One of tar's types."""
    mode: int
    owner: bytes
    group: bytes
    size: int
    target: bytes
    """A symbolic link's target; the path of the file that a hard link is another name of."""
    sha1: str
    """A file's digest in hex; empty for all else."""
    xattrs: tuple[tuple[bytes, bytes], ...]


def read_control(path: Path) -> Control:
    """Read a package's first two segments. Raises UsageError where the file is no package of the v2 format."""
    with _package(path) as file:
        return _control(Segments(file), file)


def read_package(path: Path) -> tuple[Control, tuple[PackageFile, ...]]:
    """Read a package to its end.

    Raises UsageError where the file is no package, SigningError where a digest is not what the package says.
    """
    with _package(path) as file:
        segments = Segments(file)
        control = _control(segments, file)
        if not segments.begin("sha256"):
            raise SegmentError("it has no data segment")
        try:
            files = tuple(_files(segments))
        except (SigningError, tar.TarError) as error:
            # Whoever changed a file did not change datahash: name the file only where all else holds.
            if _digest(segments) != control.metadata.datahash:
                raise _not_its_data(path) from error
            if isinstance(error, SigningError):
                raise SigningError(f"{path}: {error.message}", hint=error.hint) from None
            raise
        if _digest(segments) != control.metadata.datahash:
            raise _not_its_data(path)
        if segments.begin():
            raise SegmentError("there is something behind its data segment")
        return control, files


def data_is_true(path: Path, control: Control) -> bool:
    """Say whether a package's data is what its control segment says it is; read as it is, nothing is unpacked."""
    with _package(path) as file:
        file.seek(control.data_offset)
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest() == control.metadata.datahash


def _digest(segments: Segments) -> str:
    return segments.digests()["sha256"].hex()


def _not_its_data(path: Path) -> SigningError:
    return SigningError(
        f"{path} has been changed: its data is not what its control segment, which is signed, says it is",
        hint="do not install it; build or download it again",
    )


@contextmanager
def _package(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            if file.read(3) == b"ADB":
                raise UsageError(
                    f"{path} is a package or index of apk's v3 format", hint="pakman reads and writes the v2 format"
                )
            file.seek(0)
            yield file
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", hint="name an .apk file") from error
    except (SegmentError, tar.TarError, ValueError) as error:
        raise UsageError(
            f"{path} is not a package of apk's v2 format: {error}", hint="name an .apk file; build or download it again"
        ) from error


def _control(segments: Segments, file: IO[bytes]) -> Control:
    signatures = begin_signed(segments, file, _MAX_CONTROL)
    metadata: Metadata | None = None
    scripts: dict[str, bytes] = {}
    for header, content in tar.entries(segments):
        name = tar.shown(header.name)
        if name == ".PKGINFO" and metadata is None:
            metadata = parse_pkginfo(content.read(_MAX_PKGINFO).decode())
        elif metadata is None or not name.startswith(".") or "/" in name or name == ".PKGINFO":
            raise tar.TarError(f"its control segment has {name} where it should not")
        elif name in SCRIPTS:
            scripts[name] = content.read(MAX_SCRIPT)
    if metadata is None:
        raise tar.TarError("it has no .PKGINFO")
    digests = segments.digests()
    return Control(signatures, metadata, scripts, digests, os.fstat(file.fileno()).st_size, segments.offset)


def _files(segments: Segments) -> Iterator[PackageFile]:
    for number, (header, content) in enumerate(tar.entries(segments)):
        if number >= _MAX_FILES:
            raise tar.TarError(f"it holds more than {_MAX_FILES} files")
        path = header.name.rstrip(b"/")
        if not path or path.startswith(b"/") or {b".", b"..", b""} & set(path.split(b"/")):
            raise tar.TarError(f"it holds the path {tar.shown(header.name)!r}, which apk refuses")
        recorded = header.pax.get(_CHECKSUM, b"").decode("ascii", "replace")
        found = _sha1(header, content, recorded)
        if found != recorded:
            raise SigningError(
                f"{tar.shown(path)} is not what its checksum says it is", hint="build or download it again"
            )
        yield PackageFile(
            path,
            header.type,
            header.mode,
            header.uname or b"%d" % header.uid,
            header.gname or b"%d" % header.gid,
            header.size,
            header.link,
            found if header.type == tar.FILE else "",
            tuple((k.removeprefix(_XATTR), v) for k, v in header.pax.items() if k.startswith(_XATTR)),
        )


_XATTR = b"SCHILY.xattr."


def _sha1(header: tar.Header, content: tar.Content, recorded: str) -> str:
    """Return the digest of what apk checks: a file's content, a link's target; of nothing else, what is recorded."""
    digest = hashlib.sha1(usedforsecurity=False)
    if header.type == tar.FILE:
        for piece in content:
            digest.update(piece)
        return digest.hexdigest()
    if header.type == tar.SYMLINK and recorded:
        whole = hashlib.sha1(header.link, usedforsecurity=False).hexdigest()
        # abuild-tar hashes what the ustar header holds of a target.
        cut = hashlib.sha1(header.link[:100], usedforsecurity=False).hexdigest()
        return cut if recorded == cut else whole
    return recorded

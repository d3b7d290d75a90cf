"""Repository indexes: APKINDEX.tar.gz, as `apk index` writes it and abuild-sign signs it.

An index is a list of stanzas, a line `X:value` for each field. Stanzas are kept as text, so that fields which this
program does not know survive when indexes are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pakman.apk import tar
from pakman.apk.metadata import stanza
from pakman.apk.output import replacing
from pakman.apk.read import read_control
from pakman.apk.segments import SegmentError, Segments, compressed
from pakman.apk.signature import Signature, Signer, begin_signed, signature_segment
from pakman.errors import BuildError, UsageError

MAX_DESCRIPTION = 160
"""Bytes of the description that apk reads; a longer one it passes over."""
MAX_FILE = 32 << 20
"""Bytes of an index's file; Alpine's largest has 2.5 MB, a channel's has some 90 for each package."""
MAX_STANZAS = 300_000
"""Packages in an index; Alpine's largest has 25,000."""
_MAX_INDEX = 128 << 20
"""Bytes that it inflates to; of Alpine's largest 10 MB."""
_MAX_STANZA = 1 << 20
"""Bytes of one package in it; apk's own buffer for a line of it has 128 KB."""
_REQUIRED = {"\nP:": "name (P:)", "\nV:": "version (V:)", "\nC:": "checksum (C:)"}
"""Without one of these apk refuses the whole index, or could not tell one build from another."""
_TIME_DIGITS = 10
"""More seconds since 1970 do not fit into a tar header."""
_BATCH = 1000
"""Stanzas that are encoded at once."""


@dataclass(frozen=True, slots=True)
class Stanza:
    """One package in an index."""

    text: str
    """Its lines, each ended by a newline."""

    def field(self, letter: str) -> str:
        """Return a field's value (`P` name, `V` version, `A` architecture, `S` file size, `C` checksum), or ""."""
        # No list of lines for each question: an index has fifty thousand stanzas.
        return f"\n{self.text}".partition(f"\n{letter}:")[2].partition("\n")[0]

    @property
    def name(self) -> str:
        """The package's name."""
        return self.field("P")

    @property
    def version(self) -> str:
        """Its version with the release."""
        return self.field("V")

    @property
    def checksum(self) -> str:
        """Q1 and base64 of the control segment's SHA-1: what makes it this build and no other."""
        return self.field("C")


@dataclass(frozen=True, slots=True)
class Index:
    """An index as it was read. Who signed it is a claim until `signed_by` was asked with a key."""

    description: str
    stanzas: tuple[Stanza, ...]
    signatures: tuple[Signature, ...]
    digests: Mapping[str, bytes]
    """Of the index segment, by algorithm: what the signatures are over."""


def package_stanza(path: Path) -> Stanza:
    """Return the stanza of a package file. Raises UsageError where it is none."""
    control = read_control(path)
    return Stanza(stanza(control.metadata, control.checksum, control.size))


def write_index(path: Path, packages: Iterable[Path], keys: Sequence[Signer], description: str) -> None:
    """Write a signed index of package files. Raises UsageError for a file that is no package, BuildError as below."""
    write_stanzas(path, (package_stanza(package) for package in packages), keys, description)


def write_local_index(
    path: Path, packages: Iterable[Path], keys: Sequence[Signer], description: str, arch: str
) -> None:
    """Write a signed index of package files that all lie in the directory of one architecture; raises as write_index.

    apk looks for a package in the directory that the index names: noarch ones lie beside the others.
    """
    stanzas = (package_stanza(package) for package in packages)
    local = (Stanza(each.text.replace("\nA:noarch\n", f"\nA:{arch}\n", 1)) for each in stanzas)
    write_stanzas(path, local, keys, description)


def write_stanzas(path: Path, stanzas: Iterable[Stanza], keys: Sequence[Signer], description: str) -> None:
    """Write a signed index as `signed` returns it; raises BuildError where `path` cannot be written, too.

    Then it is as it was.
    """
    content = signed(stanzas, keys, description)
    with replacing(path) as out:
        out.write(content)


def signed(stanzas: Iterable[Stanza], keys: Sequence[Signer], description: str, threads: int = 1) -> bytes:
    """Return a signed index, sorted by name, version and checksum; the same stanzas are the same bytes.

    As they are for any number of `threads`, which compress it.

    Raises BuildError where the description is too long for apk, or there is more than `read_index` takes.
    """
    if len(description.encode()) > MAX_DESCRIPTION:
        raise BuildError(
            f"the index's description has {len(description.encode())} bytes; apk reads at most {MAX_DESCRIPTION}",
            hint="shorten it",
        )
    ordered = sorted(set(stanzas), key=lambda each: (each.name, each.version, each.checksum))
    index = b"".join(compressed(_archive(ordered, description), threads))
    return signature_segment(keys, index) + index


def _archive(stanzas: list[Stanza], description: str) -> Iterator[bytes]:
    # The newest package's time: the clock would make another index of the same packages.
    mtime = max((_built(each) for each in stanzas), default=0)
    described = description.encode()
    size = sum(len(each) for each in _encoded(stanzas))
    if len(stanzas) > MAX_STANZAS or size > _MAX_INDEX:
        has, most = (f"{len(stanzas)} packages", MAX_STANZAS) if size <= _MAX_INDEX else (f"{size} bytes", _MAX_INDEX)
        raise BuildError(f"that makes an index of {has}, where at most {most} are read", hint="take old versions out")
    for name, length, content in (
        (b"DESCRIPTION", len(described), iter([described])),
        (b"APKINDEX", size, _encoded(stanzas)),
    ):
        yield tar.encoded(tar.Header(name=name, type=tar.FILE, mode=0o644, size=length, mtime=mtime))
        yield from content
        yield tar.padding(length)
    yield tar.END


def _built(stanza: Stanza) -> int:
    time = stanza.field("t")
    return int(time) if time.isascii() and time.isdecimal() and len(time) <= _TIME_DIGITS else 0


def _encoded(stanzas: list[Stanza]) -> Iterator[bytes]:
    for start in range(0, len(stanzas), _BATCH):
        yield "".join(f"{each.text}\n" for each in stanzas[start : start + _BATCH]).encode()


def read_index(path: Path) -> Index:
    """Read an index. Raises UsageError where the file is none, or larger than any that is in order."""
    try:
        with path.open("rb") as file:
            return parse_index(file, str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_index(file: IO[bytes], where: str) -> Index:
    """Read an index that errors call `where`; raises UsageError as `read_index`, OSError where it cannot be read."""
    try:
        segments = Segments(file)
        signatures = begin_signed(segments, file, _MAX_INDEX + _MAX_STANZA)
        description, stanzas = _contents(segments)
        digests = segments.digests()
        if segments.begin():
            raise SegmentError("there is something behind the index")
    except ValueError as error:
        raise UsageError(f"{where} is not an index of apk's v2 format: {error}", hint="build it again") from error
    return Index(description, stanzas, signatures, digests)


def _contents(segments: Segments) -> tuple[str, tuple[Stanza, ...]]:
    description, stanzas = "", None
    for header, content in tar.entries(segments):
        if header.name == b"DESCRIPTION":
            description = content.read(_MAX_STANZA).decode()
        elif header.name == b"APKINDEX" and stanzas is None:
            stanzas = tuple(_stanzas(header.size, content))
        else:
            twice = " twice" if header.name == b"APKINDEX" else ""
            raise tar.TarError(f"it holds {tar.shown(header.name)}{twice}")
    if stanzas is None:
        raise tar.TarError("it holds no APKINDEX")
    return description, stanzas


def _stanzas(size: int, content: Iterable[bytes]) -> Iterator[Stanza]:
    """Yield what an index lists; in memory is never more of it than that."""
    if size > _MAX_INDEX:
        raise tar.TarError(f"it inflates to {size} bytes, where at most {_MAX_INDEX} are in order")
    number = 0
    for text in _between_blank_lines(content):
        if not (stripped := text.decode().strip()):
            continue
        number += 1
        if number > MAX_STANZAS:
            raise tar.TarError(f"it lists more than {MAX_STANZAS} packages")
        lines = f"\n{stripped}\n"
        for mark, field in _REQUIRED.items():
            if mark not in lines:
                raise tar.TarError(f"package number {number} in it has no {field}")
        yield Stanza(lines[1:])


def _between_blank_lines(content: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in content:
        *whole, rest = (rest + piece).split(b"\n\n")
        yield from filter(None, whole)
        if len(rest) > _MAX_STANZA:
            raise tar.TarError(f"one of its packages has more than {_MAX_STANZA} bytes")
    yield rest

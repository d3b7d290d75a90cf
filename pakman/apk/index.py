"""Repository indexes: APKINDEX.tar.gz, as `apk index` writes it and abuild-sign signs it.

An index is a list of stanzas, a line `X:value` for each field. Stanzas are kept as text, so that fields which this
program does not know survive when indexes are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pakman.apk import tar
from pakman.apk.metadata import stanza
from pakman.apk.output import replacing
from pakman.apk.read import read_control
from pakman.apk.segments import SegmentError, Segments, compressed
from pakman.apk.signature import Signature, Signer, begin_signed, signature_segment
from pakman.errors import BuildError, UsageError

MAX_DESCRIPTION = 160
"""Bytes of the description that apk reads; a longer one it passes over."""
MAX_FILE = 16 << 20
"""Bytes that are downloaded of one index; Alpine's largest has 2.5 MB."""
_MAX_INDEX = 64 << 20
"""Alpine's own largest index inflates to about 10 MB."""


@dataclass(frozen=True, slots=True)
class Stanza:
    """One package in an index."""

    text: str
    """Its lines, each ended by a newline."""

    def field(self, letter: str) -> str:
        """Return a field's value (`P` name, `V` version, `A` architecture, `S` file size, `C` checksum), or ""."""
        prefix = f"{letter}:"
        return next((line[2:] for line in self.text.split("\n") if line.startswith(prefix)), "")

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
    """Write a signed index, sorted by name, version and checksum; the same stanzas are the same bytes.

    Raises BuildError where the description is too long for apk, or `path` cannot be written; then it is as it was.
    """
    if len(description.encode()) > MAX_DESCRIPTION:
        raise BuildError(
            f"the index's description has {len(description.encode())} bytes; apk reads at most {MAX_DESCRIPTION}",
            hint="shorten it",
        )
    ordered = sorted(set(stanzas), key=lambda each: (each.name, each.version, each.checksum))
    index = b"".join(compressed(_archive(ordered, description)))
    with replacing(path) as out:
        out.write(signature_segment(keys, index) + index)


def _archive(stanzas: list[Stanza], description: str) -> Iterator[bytes]:
    # The newest package's time: the clock would make another index of the same packages.
    mtime = max((int(each.field("t") or "0") for each in stanzas), default=0)
    for name, text in (("DESCRIPTION", description), ("APKINDEX", "".join(f"{each.text}\n" for each in stanzas))):
        content = text.encode()
        yield tar.encoded(tar.Header(name=name.encode(), type=tar.FILE, mode=0o644, size=len(content), mtime=mtime))
        yield content
        yield tar.padding(len(content))
    yield tar.END


def read_index(path: Path) -> Index:
    """Read an index. Raises UsageError where the file is none."""
    try:
        with path.open("rb") as file:
            segments = Segments(file)
            signatures = begin_signed(segments, file)
            found = dict(_contents(segments))
            digests = segments.digests()
            if segments.begin():
                raise SegmentError("there is something behind the index")
            texts = found[b"APKINDEX"].split("\n\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise UsageError(f"{path} is not an index: it holds no APKINDEX", hint="build it again") from error
    except ValueError as error:
        raise UsageError(f"{path} is not an index of apk's v2 format: {error}", hint="build it again") from error
    stanzas = tuple(Stanza(f"{text.strip()}\n") for text in texts if text.strip())
    return Index(found.get(b"DESCRIPTION", ""), stanzas, signatures, digests)


def _contents(segments: Segments) -> Iterator[tuple[bytes, str]]:
    for header, content in tar.entries(segments):
        if header.name not in (b"APKINDEX", b"DESCRIPTION"):
            raise tar.TarError(f"it holds {tar.shown(header.name)}")
        yield header.name, content.read(_MAX_INDEX).decode()

"""Tar as apk v2 reads it: ustar headers of 512 bytes, preceded by pax records for what they cannot hold.

Names are bytes throughout: Linux promises no more, and neither does apk. Sources: apk-tools' `apk_tar_parse` for what
is understood, abuild's `apk_tar` and `abuild-tar` for what packages carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end of an archive; signature and control segment go without it, because the archive goes on."""
MAX_PATH = 4085
"""The longest path, and link target, in bytes that apk takes (PATH_MAX - 10, exclusive)."""
MAX_SIZE = 8**11 - 1
"""The largest file in bytes: apk reads sizes from the header's octal digits only."""
MAX_NAME = 32
"""The longest name of a user or group in bytes."""
_MAX_PAX = 1 << 20
"""Far more than a path, a link target and Linux's 64 KiB of extended attributes."""

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"0", b"1", b"2", b"3", b"4", b"5", b"6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One entry of an archive, without its content."""

    name: bytes
    """A directory's ends in a slash."""
    type: bytes
    mode: int
    """Permission bits, setuid, setgid and sticky included."""
    uid: int = 0
    gid: int = 0
    uname: bytes = b"root"
    gname: bytes = b"root"
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor number."""
    pax: Mapping[bytes, bytes] = field(default_factory=dict)
    """Further records: extended attributes, checksums."""


class TarError(ValueError):
    """The bytes are no archive that apk would read; the text says why."""


class Readable(Protocol):
    """Where an archive comes from."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""


def shown(name: bytes) -> str:
    """Return a file name for people: control characters and what is not UTF-8 are escaped."""
    return printable(name.decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """Return a text that cannot move a terminal's cursor: control characters are escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of a content of `size` bytes."""
    return bytes(-size % BLOCK)


def encoded(header: Header) -> bytes:
    """Return the header's blocks, a pax header before it where it needs one."""
    records = dict(header.pax)
    if len(header.name) > 100 or not header.name.isascii():
        records[b"path"] = header.name
    if len(header.link) > 100 or not header.link.isascii():
        records[b"linkpath"] = header.link
    block = _block(header)
    if not records:
        return block
    body = b"".join(_record(key, value) for key, value in records.items())
    extended = Header(name=b"PaxHeader", type=b"x", mode=0o644, size=len(body), mtime=header.mtime)
    return b"".join((_block(extended), body, padding(len(body)), block))


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record counts its own length, the digits of the count included."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(header: Header) -> bytes:
    before = b"".join(
        (
            header.name[:100].ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0" % (header.mode, header.uid, header.gid),
            b"%011o\0%011o\0" % (header.size, header.mtime),
        )
    )
    after = b"".join(
        (
            header.type,
            header.link[:100].ljust(100, b"\0"),
            b"ustar\00000",
            header.uname.ljust(32, b"\0"),
            header.gname.ljust(32, b"\0"),
            b"%07o\0%07o\0" % header.device,
            bytes(167),
        )
    )
    # The checksum counts its own field as eight spaces.
    return b"%b%06o\0 %b" % (before, sum(before) + sum(after) + 8 * 0x20, after)


def entries(stream: Readable) -> Iterator[tuple[Header, Content]]:
    """Yield each entry and its content, which is skipped unless read before the next entry is asked for.

    Memory is bounded whatever the bytes are. Raises TarError where apk would not read on, too.
    """
    pax: dict[bytes, bytes] = {}
    while block := stream.read(BLOCK):
        if block == bytes(BLOCK):
            _only_zeros_to_the_end(stream)
            return
        header = _decoded(block, pax)
        if header.type == b"x":
            pax = _records(Content(stream, header.size))
            continue
        content = Content(stream, header.size)
        if header.type != b"g":
            yield header, content
            pax = {}
        content.skip()


class Content:
    """The content of one entry."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self._left = size
        self._padding = -size % BLOCK

    def read(self, limit: int) -> bytes:
        """Return the whole content; raise TarError where it is longer than `limit` bytes."""
        if self._left > limit:
            raise TarError(f"{self._left} bytes where at most {limit} are in order")
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            piece = self._stream.read(min(self._left, 1 << 18))
            if not piece:
                raise TarError("the archive ends in the middle of a file")
            self._left -= len(piece)
            yield piece
        if self._padding:
            if len(self._stream.read(self._padding)) != self._padding:
                raise TarError("the archive ends in the middle of a file")
            self._padding = 0

    def skip(self) -> None:
        """Pass over what has not been read."""
        for _ in self:
            pass


_MOST_PADDING = 1 << 20
"""Bytes behind the last entry. tar fills its last record, mostly of 10 KB; a bomb goes on for gigabytes."""


def _only_zeros_to_the_end(stream: Readable) -> None:
    size = 0
    while piece := stream.read(1 << 16):
        size += len(piece)
        if piece.strip(b"\0") or size > _MOST_PADDING:
            raise TarError("there is something behind the archive's end")


def _decoded(block: bytes, pax: Mapping[bytes, bytes]) -> Header:
    if len(block) != BLOCK or block[257:262] != b"ustar":
        raise TarError("that is no tar header")
    if _octal(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * 0x20:
        raise TarError("a tar header's checksum is wrong")
    kind = block[156:157]
    if kind not in (FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO, b"x", b"g"):
        raise TarError(f"an entry of type {kind!r}, which packages do not have")
    name, prefix = _text(block[:100]), _text(block[345:500])
    return Header(
        name=pax.get(b"path", b"/".join((prefix, name)) if prefix else name),
        type=kind,
        mode=_octal(block[100:108]) & 0o7777,
        uid=_octal(block[108:116]),
        gid=_octal(block[116:124]),
        uname=_text(block[265:297]),
        gname=_text(block[297:329]),
        size=_octal(block[124:136]),
        mtime=_octal(block[136:148]),
        link=pax.get(b"linkpath", _text(block[157:257])),
        device=(_octal(block[329:337]), _octal(block[337:345])),
        pax=pax,
    )


def _records(content: Content) -> dict[bytes, bytes]:
    body = content.read(_MAX_PAX)
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(body):
        digits, _, _ = body[start : start + 21].partition(b" ")
        end = start + (int(digits) if digits.isdigit() else 0)
        key, separator, value = body[start + len(digits) + 1 : end - 1].partition(b"=")
        if not separator or end > len(body) or body[end - 1 : end] != b"\n":
            raise TarError("a pax header is malformed")
        records[key] = value
        start = end
    return records


def _octal(digits: bytes) -> int:
    text = digits.rstrip(b"\0 ").lstrip(b" ")
    if text.strip(b"01234567"):
        raise TarError("a number in a tar header is not octal")
    return int(text or b"0", 8)


def _text(padded: bytes) -> bytes:
    return padded.partition(b"\0")[0]

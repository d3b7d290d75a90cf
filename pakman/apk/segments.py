"""The segments of a package: gzip members in one file, each compressed, hashed and read as a stream.

A package is signature, control and data segment; an index is signature and index segment.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:  # it brings all of logging with it, and small packages need no threads
    from concurrent.futures import Future

_BLOCK = 512 << 10
"""Bytes that are compressed as one piece of work. Part of the format's bytes: another number makes other packages."""
_WINDOW = 32 << 10
"""How far back deflate looks: the end of one block is the dictionary of the next, so that none compresses worse."""
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03"
"""No name, no time, level 9, Unix: what `gzip -n -9` writes."""
_END = b"\x03\x00"
"""An empty last block of deflate; every block before it ended on a byte by a sync flush."""
_READ = 1 << 16
_INFLATED = 1 << 18


def compressed(pieces: Iterable[bytes], threads: int = 1) -> Iterator[bytes]:
    """Yield one gzip member of `pieces`. Its bytes are the same for any number of threads and any cut into pieces."""
    yield _HEADER
    crc = size = 0
    for block, deflated in _in_order(_blocks(pieces), threads):
        crc = zlib.crc32(block, crc)
        size += len(block)
        yield deflated
    yield _END + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _in_order(blocks: Iterable[bytes], threads: int) -> Iterator[tuple[bytes, bytes]]:
    dictionary = b""
    if threads == 1:
        for block in blocks:
            yield block, _deflated(block, dictionary)
            dictionary = block[-_WINDOW:]
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads, thread_name_prefix="deflate")
    try:
        pending: deque[tuple[bytes, Future[bytes]]] = deque()
        for block in blocks:
            pending.append((block, pool.submit(_deflated, block, dictionary)))
            dictionary = block[-_WINDOW:]
            # One block ahead of each thread: none waits for the reader, and memory stays bounded.
            if len(pending) > 2 * threads:
                first, future = pending.popleft()
                yield first, future.result()
        for block, future in pending:
            yield block, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _deflated(block: bytes, dictionary: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return engine.compress(block) + engine.flush(zlib.Z_SYNC_FLUSH)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            joined = b"".join(held)
            whole = size - size % _BLOCK
            for start in range(0, whole, _BLOCK):
                yield joined[start : start + _BLOCK]
            held = [joined[whole:]]
            size -= whole
    if size:
        yield b"".join(held)


class SegmentError(ValueError):
    """The file is not made of whole gzip members; the text says why."""


class Segments:
    """Reads a file segment by segment; what `read` returns is bounded however far a segment inflates."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._raw = b""
        """Bytes of the file that no segment has taken yet."""
        self._inflated = b""
        self._position = 0
        """How much of `_inflated` has been handed out."""
        self._engine = zlib.decompressobj(31)
        self._hashes: tuple[hashlib._Hash, ...] = ()
        self._most: int | None = None
        self._size = 0
        """How much of the segment has been inflated."""
        self.offset = 0
        """Where in the file the current segment began; after its end, where the next one would."""

    def begin(self, *algorithms: str, most: int | None = None) -> bool:
        """Go to the next segment, hashing its compressed bytes; False at the end of the file.

        It may inflate to `most` bytes: more is a SegmentError, whoever reads or passes over them.
        """
        self._raw = self._raw or self._file.read(_READ)
        if not self._raw:
            return False
        self._engine = zlib.decompressobj(31)
        self._inflated, self._position = b"", 0
        self._most, self._size = most, 0
        self._hashes = tuple(hashlib.new(name, usedforsecurity=False) for name in algorithms)
        return True

    def read(self, size: int) -> bytes:
        """Return `size` inflated bytes, fewer only at the segment's end. Raises SegmentError where it is damaged."""
        pieces: list[bytes] = []
        while size:
            if self._position == len(self._inflated):
                self._inflated, self._position = self._inflate(), 0
                if not self._inflated:
                    break
            piece = self._inflated[self._position : self._position + size]
            self._position += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def digests(self) -> dict[str, bytes]:
        """Pass over the rest of the segment and return the digests of its compressed bytes, by algorithm."""
        while self._inflate():
            pass
        self._inflated, self._position = b"", 0
        return {each.name: each.digest() for each in self._hashes}

    def _inflate(self) -> bytes:
        """Return the next inflated bytes, none at the segment's end."""
        while not self._engine.eof:
            if not self._raw:
                self._raw = self._file.read(_READ)
                if not self._raw:
                    raise SegmentError("it ends too early")
            try:
                piece = self._engine.decompress(self._raw, _INFLATED)
            except zlib.error as error:
                raise SegmentError("it is not gzip, or damaged") from error
            rest = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            taken = len(self._raw) - len(rest)
            for each in self._hashes:
                each.update(memoryview(self._raw)[:taken])
            self.offset += taken
            self._raw = rest
            self._size += len(piece)
            if self._most is not None and self._size > self._most:
                raise SegmentError(f"it inflates to more than the {self._most} bytes that are in order")
            if piece:
                return piece
        return b""

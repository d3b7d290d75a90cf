"""Write a package: data, digest, control, signature, combine. It streams, and the same tree gives the same bytes.

The bytes depend on the tree, the arguments and zlib's deflate (1.2.13 and 1.3.2 agree, zlib-ng does not); not on
threads, times, directories, umask or the order in which files were made.
Sources: abuild's `create_apks`, abuild-tar, abuild-sign.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from pakman.apk import tar
from pakman.apk.metadata import Metadata, pkginfo
from pakman.apk.output import replacing, writing
from pakman.apk.package import Package
from pakman.apk.segments import compressed
from pakman.apk.signature import Signer, signature_segment
from pakman.apk.tree import Entry, Tree, changed
from pakman.errors import BuildError

SCRIPTS = (
    ".pre-install",
    ".post-install",
    ".pre-upgrade",
    ".post-upgrade",
    ".pre-deinstall",
    ".post-deinstall",
    ".trigger",
)
MAX_SCRIPT = 256 << 10
"""The longest script in bytes that apk runs (APK_MAX_SCRIPT_SIZE)."""
_HELD = 1 << 20
"""Files up to this size are read once, larger ones twice: their digest goes before their content."""


def write_package(
    path: Path,
    metadata: Metadata,
    tree: Path,
    *,
    scripts: Mapping[str, bytes],
    owners: Mapping[int, str],
    groups: Mapping[int, str],
    mtime: int,
    keys: Sequence[Signer],
    threads: int = 1,
) -> Package:
    """Pack the directory `tree`, whose content becomes the content of /, into the file `path`, and sign it.

    `metadata` comes without size and datahash. `scripts` are named as in SCRIPTS. `owners` and `groups` name the uids
    and gids in the tree; what has none there is refused. Every entry takes `mtime`, seconds since 1970.
    Raises BuildError for what cannot be packed, or written; then `path` is as it was.
    """
    _refuse_scripts(metadata, scripts)
    with Tree(tree) as files, writing(path), tempfile.TemporaryFile(dir=path.parent) as data:
        entries = files.entries()
        headers = [_header(entry, owners, groups, mtime) for entry in entries]
        complete = replace(
            metadata, depends=_depends(metadata, scripts), size=_installed_size(entries, scripts), datahash=""
        )
        # Refused now rather than after minutes of compressing.
        pkginfo(complete)
        datahash = hashlib.sha256()
        for piece in compressed(_data(files, entries, headers), threads):
            datahash.update(piece)
            data.write(piece)
        data.seek(0)
        return assemble(
            path, replace(complete, datahash=datahash.hexdigest()), data, scripts=scripts, mtime=mtime, keys=keys
        )


def assemble(
    path: Path,
    metadata: Metadata,
    data: IO[bytes],
    *,
    scripts: Mapping[str, bytes],
    mtime: int,
    keys: Sequence[Signer],
) -> Package:
    """Write a package around a data segment that is there: `data`, from where it stands, of which `metadata` is true.

    Raises BuildError for what apk would misread, or where `path` cannot be written; then it is as it was.
    """
    control = b"".join(compressed(_control(metadata, scripts, mtime)))
    signature = signature_segment(keys, control)
    with replacing(path) as out:
        size, sha256 = _combine(out, signature + control, data)
    return Package(metadata.pkgname, metadata.pkgver, metadata.arch, path, size, sha256)


def _data(files: Tree, entries: list[Entry], headers: list[tar.Header]) -> Iterator[bytes]:
    for entry, header in zip(entries, headers, strict=True):
        if entry.type == tar.FILE:
            yield from _file(files, entry, header)
        elif entry.type == tar.SYMLINK:
            yield tar.encoded(_with_checksum(header, hashlib.sha1(entry.target, usedforsecurity=False)))
        else:
            yield tar.encoded(header)
    yield tar.END


def _file(files: Tree, entry: Entry, header: tar.Header) -> Iterator[bytes]:
    digest = hashlib.sha1(usedforsecurity=False)
    with files.opened(entry) as descriptor:
        if entry.size <= _HELD:
            # One byte more than listed: a file that grew is noticed.
            content = os.read(descriptor, entry.size + 1)
            if len(content) != entry.size:
                raise changed(entry)
            digest.update(content)
            yield tar.encoded(_with_checksum(header, digest))
            yield content
        else:
            before = os.fstat(descriptor)
            for piece in _pieces(descriptor, entry):
                digest.update(piece)
            yield tar.encoded(_with_checksum(header, digest))
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield from _pieces(descriptor, entry)
            if os.fstat(descriptor).st_ctime_ns != before.st_ctime_ns:
                raise changed(entry)
    yield tar.padding(entry.size)


def _pieces(descriptor: int, entry: Entry) -> Iterator[bytes]:
    left = entry.size
    while left:
        piece = os.read(descriptor, min(left, _HELD))
        if not piece:
            raise changed(entry)
        left -= len(piece)
        yield piece


def _header(entry: Entry, owners: Mapping[int, str], groups: Mapping[int, str], mtime: int) -> tar.Header:
    return tar.Header(
        name=entry.path + b"/" if entry.type == tar.DIRECTORY else entry.path,
        type=entry.type,
        mode=entry.mode,
        # apk goes by the names; the numbers are those of root, as in Alpine's packages, so that a file whose owner
        # does not exist where it is installed belongs to nobody else.
        uname=_name(entry, "user", entry.uid, owners),
        gname=_name(entry, "group", entry.gid, groups),
        size=entry.size,
        mtime=mtime,
        link=entry.target,
        device=entry.device,
        pax={b"SCHILY.xattr." + key: value for key, value in entry.xattrs},
    )


def _name(entry: Entry, kind: str, number: int, names: Mapping[int, str]) -> bytes:
    name = names.get(number, "root" if number == 0 else "").encode()
    if not 0 < len(name) <= tar.MAX_NAME:
        raise BuildError(
            f"{tar.shown(entry.path)} belongs to {kind} {number}, which has no name in the build root"
            if not name
            else f"{tar.shown(entry.path)} belongs to {kind} {name.decode()}, a name longer than {tar.MAX_NAME} bytes",
            hint="let package() chown it to root, or to the user that the service runs as",
        )
    return name


def _with_checksum(header: tar.Header, digest: hashlib._Hash) -> tar.Header:
    return replace(header, pax={**header.pax, b"APK-TOOLS.checksum.SHA1": digest.hexdigest().encode()})


def _control(metadata: Metadata, scripts: Mapping[str, bytes], mtime: int) -> Iterator[bytes]:
    yield from _held(".PKGINFO", pkginfo(metadata).encode(), 0o644, mtime)
    for name in sorted(scripts, key=SCRIPTS.index):
        yield from _held(name, scripts[name], 0o755, mtime)


def _held(name: str, content: bytes, mode: int, mtime: int) -> Iterator[bytes]:
    yield tar.encoded(tar.Header(name=name.encode(), type=tar.FILE, mode=mode, size=len(content), mtime=mtime))
    yield content
    yield tar.padding(len(content))


def _combine(out: IO[bytes], head: bytes, data: IO[bytes]) -> tuple[int, str]:
    sha256 = hashlib.sha256(head)
    size = out.write(head)
    while piece := data.read(1 << 20):
        sha256.update(piece)
        size += out.write(piece)
    return size, sha256.hexdigest()


def _installed_size(entries: list[Entry], scripts: Mapping[str, bytes]) -> int:
    """Return the bytes of all files; 1 for none, because apk 2 takes a package of size 0 for virtual and skips it."""
    return sum(entry.size for entry in entries) or int(bool(entries or scripts))


def _depends(metadata: Metadata, scripts: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the dependencies, /bin/sh included where a script needs it, as abuild has them."""
    names = {re.split("[<>=~]", word)[0] for word in metadata.depends}
    needed = any(re.match(rb"#!\s*/bin/sh", content) for content in scripts.values())
    if needed and metadata.origin != "busybox" and not names & {"busybox", "/bin/sh"}:
        return (*metadata.depends, "/bin/sh")
    return metadata.depends


def _refuse_scripts(metadata: Metadata, scripts: Mapping[str, bytes]) -> None:
    for name, content in scripts.items():
        if name not in SCRIPTS:
            raise BuildError(
                f"{metadata.pkgname}: {name} is no script that apk runs", hint=f"it runs {', '.join(SCRIPTS)}"
            )
        if len(content) > MAX_SCRIPT:
            raise BuildError(
                f"{metadata.pkgname}: {name} has {len(content)} bytes; apk runs scripts of at most {MAX_SCRIPT}",
                hint="install a program and call it from the script",
            )

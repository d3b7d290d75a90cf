"""What `pakman inspect` shows of a package or an index, once its digests and its signature were checked."""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pakman import signing
from pakman.apk import tar
from pakman.apk.index import Index, read_index
from pakman.apk.read import Control, PackageFile, read_package
from pakman.apk.signature import Signature, signed_by
from pakman.errors import SigningError
from pakman.progress import human_size

_KINDS = {
    tar.FILE: ("file", stat.S_IFREG),
    tar.HARDLINK: ("hardlink", stat.S_IFREG),
    tar.SYMLINK: ("symlink", stat.S_IFLNK),
    tar.CHARACTER: ("character device", stat.S_IFCHR),
    tar.BLOCK_DEVICE: ("block device", stat.S_IFBLK),
    tar.DIRECTORY: ("directory", stat.S_IFDIR),
    tar.FIFO: ("fifo", stat.S_IFIFO),
}


def inspect(file: Path, *, key: Path | None, as_json: bool) -> str:
    """Return a package's or an index's content, for people or as JSON, and who signed it.

    Raises UsageError where the file is neither, SigningError where a digest is wrong or `key` did not sign it.
    """
    if file.name.endswith(".tar.gz"):
        index = read_index(file)
        verdict = _verdict(file, key, index.signatures, index.digests)
        return _json(_index_json(index), verdict) if as_json else _index_text(index, verdict)
    control, files = read_package(file)
    verdict = _verdict(file, key, control.signatures, control.digests)
    return _json(_package_json(control, files), verdict) if as_json else _package_text(control, files, verdict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Verdict:
    claimed: tuple[str, ...]
    """The key names that the file says it is signed by."""
    signed_by: str | None
    """The one that it was checked to be signed by."""

    def text(self) -> str:
        """Say it to people."""
        if self.signed_by is not None:
            return f"good: signed by {self.signed_by}; apk looks for it as /etc/apk/keys/{self.signed_by}"
        if self.claimed:
            return f"not checked: it claims to be signed by {' and '.join(self.claimed)}; give --key FILE to check it"
        return "none: apk installs it only with --allow-untrusted"


def _verdict(file: Path, key: Path | None, signatures: tuple[Signature, ...], digests: Mapping[str, bytes]) -> _Verdict:
    claimed = tuple(tar.printable(each.key_name) for each in signatures)
    if key is None:
        return _Verdict(claimed, None)
    public = signing.read_public(key)
    found = signed_by(public, signatures, digests)
    if found is not None:
        return _Verdict(claimed, tar.printable(found.key_name))
    if not claimed:
        raise SigningError(f"{file} is not signed at all", hint="sign it: `pakman build --signing-key FILE`")
    if public.name in claimed:
        raise SigningError(
            f"{file} claims to be signed by {public.name}, but the signature does not hold for {key}",
            hint="either the file was changed, or another key has this name; do not install it",
        )
    raise SigningError(
        f"{file} was not signed by {key}: it claims to be signed by {' and '.join(claimed)}",
        hint=f"get {claimed[0]} from whoever made the package, and give that as --key",
    )


def _json(content: dict[str, Any], verdict: _Verdict) -> str:
    return json.dumps({**content, "signatures": verdict.claimed, "signed_by": verdict.signed_by}, indent=2)


def _package_json(control: Control, files: Sequence[PackageFile]) -> dict[str, Any]:
    return {
        "size": control.size,
        "checksum": control.checksum,
        "metadata": dataclasses.asdict(control.metadata),
        "scripts": {name: content.decode("utf-8", "backslashreplace") for name, content in control.scripts.items()},
        "files": [_file_json(each) for each in files],
    }


def _file_json(file: PackageFile) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": _text(file.path),
        "type": _KINDS[file.type][0],
        "mode": f"{file.mode:04o}",
        "owner": _text(file.owner),
        "group": _text(file.group),
    }
    if file.type == tar.FILE:
        found |= {"size": file.size, "sha1": file.sha1}
    if file.target:
        found["target"] = _text(file.target)
    if file.xattrs:
        found["xattrs"] = {_text(key): value.hex() for key, value in file.xattrs}
    return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _package_text(control: Control, files: Sequence[PackageFile], verdict: _Verdict) -> str:
    metadata = control.metadata
    lines = [
        tar.printable(f"{metadata.pkgname} {metadata.pkgver} ({metadata.arch})"),
        *_field("description", metadata.pkgdesc),
        *_field("url", metadata.url),
        *_field("license", metadata.license),
        *_field("maintainer", metadata.maintainer),
        *_field("origin", metadata.origin),
        *_field("commit", metadata.commit),
        *_field("size", f"{human_size(control.size)}, installed {human_size(metadata.size)}"),
        *_field("depends", " ".join(metadata.depends)),
        *_field("provides", " ".join(metadata.provides)),
        *_field("replaces", " ".join(metadata.replaces)),
        *_field("install if", " ".join(metadata.install_if)),
        *_field("triggers", " ".join(metadata.triggers)),
        *_field("checksum", control.checksum),
        *_field("signature", verdict.text()),
    ]
    for name, content in control.scripts.items():
        lines += ["", f"{name} runs:"]
        lines += [f"  {tar.printable(line.expandtabs(4))}" for line in _text(content).rstrip("\n").split("\n")]
    lines += ["", f"{len(files)} files, directories and links:"]
    owners = max((len(_owner(each)) for each in files), default=0)
    lines += [f"  {_file_text(each, owners)}" for each in files]
    return "\n".join(lines)


def _field(name: str, value: str) -> list[str]:
    return [f"  {name:<12} {tar.printable(value)}"] if value else []


def _owner(file: PackageFile) -> str:
    return f"{tar.shown(file.owner)}:{tar.shown(file.group)}"


def _file_text(file: PackageFile, owners: int) -> str:
    mode = stat.filemode(_KINDS[file.type][1] | file.mode)
    size = human_size(file.size) if file.type == tar.FILE else ""
    path = tar.shown(file.path) + ("/" if file.type == tar.DIRECTORY else "")
    arrow = {tar.SYMLINK: " -> ", tar.HARDLINK: " = "}.get(file.type, "")
    xattrs = "".join(f" [{tar.shown(key)}]" for key, _ in file.xattrs)
    return f"{mode} {_owner(file):<{owners}} {size:>9} {path}{arrow}{tar.shown(file.target)}{xattrs}"


def _index_json(index: Index) -> dict[str, Any]:
    return {
        "description": index.description,
        "packages": [
            {
                "name": each.name,
                "version": each.version,
                "arch": each.field("A"),
                "size": each.field("S"),
                "checksum": each.checksum,
            }
            for each in index.stanzas
        ],
    }


def _index_text(index: Index, verdict: _Verdict) -> str:
    count = len(index.stanzas)
    lines = [f"an index of {count} package{'' if count == 1 else 's'}"]
    lines += [*_field("description", index.description), *_field("signature", verdict.text()), ""]
    lines += [tar.printable(f"  {each.name} {each.version} ({each.field('A')})") for each in index.stanzas]
    return "\n".join(lines)

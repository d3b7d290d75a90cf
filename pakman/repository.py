"""A built repository on this machine: the packages of one architecture, their index, the public key.

DIR/<arch>/<name>-<version>.apk
DIR/<arch>/APKINDEX.tar.gz      signed; names exactly the packages below
DIR/<arch>/packages.json        what was built, from what; written last, so it is there only when all is
DIR/<key name>.rsa.pub          two of them while keys are rotated
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pakman.apk.package import Package
from pakman.errors import UsageError

MANIFEST_FILE = "packages.json"
INDEX_FILE = "APKINDEX.tar.gz"


@dataclass(frozen=True, slots=True)
class BuiltBy:
    """What packed: the builder (`abuild` or `embedded`), and the version of the pakman that told it what."""

    name: str
    pakman: str


@dataclass(frozen=True, slots=True)
class Repository:
    """What one build made for one architecture."""

    directory: Path
    """DIR above."""
    arch: str
    owner: str
    project: str
    """The repository's name on GitHub."""
    slug: str
    commit: str | None
    stack: str
    key_name: str
    """The file name of the public key that a new machine trusts, `<owner>-<name>.rsa.pub` unless it carries another."""
    packages: tuple[Package, ...]
    builder: BuiltBy
    is_throwaway_key: bool = False
    """Nobody has the private key any more: good for a look, not for a bucket."""
    previous_key_name: str | None = None
    """While keys are rotated: the key that signs as well, for machines that have no other."""

    @property
    def index(self) -> Path:
        """The signed index."""
        return self.directory / self.arch / INDEX_FILE

    @property
    def public_key(self) -> Path:
        """The public key that packages and index are signed with."""
        return self.directory / self.key_name

    @property
    def public_keys(self) -> tuple[Path, ...]:
        """It, and while keys are rotated the previous one."""
        previous = () if self.previous_key_name is None else (self.directory / self.previous_key_name,)
        return (self.public_key, *previous)

    @property
    def manifest_file(self) -> Path:
        """The JSON file that says all this."""
        return self.directory / self.arch / MANIFEST_FILE

    def to_json(self) -> str:
        """Return the content of packages.json."""
        return (
            json.dumps(
                {
                    "arch": self.arch,
                    "owner": self.owner,
                    "project": self.project,
                    "slug": self.slug,
                    "commit": self.commit,
                    "stack": self.stack,
                    "key_name": self.key_name,
                    "previous_key_name": self.previous_key_name,
                    "throwaway_key": self.is_throwaway_key,
                    "builder": {"name": self.builder.name, "pakman": self.builder.pakman},
                    "packages": [
                        {
                            "name": package.name,
                            "version": package.version,
                            "arch": package.arch,
                            "file": f"{self.arch}/{package.path.name}",
                            "size": package.size,
                            "sha256": package.sha256,
                        }
                        for package in self.packages
                    ],
                },
                indent=2,
            )
            + "\n"
        )


def read(directory: Path) -> tuple[Repository, ...]:
    """Read what `pakman build --output DIR` left behind, an entry per architecture, sorted.

    Raises UsageError where there is nothing, or where a packages.json is not what this program writes.
    """
    found = sorted(directory.glob(f"*/{MANIFEST_FILE}"))
    if not found:
        raise UsageError(
            f"{directory} holds no built repository: there is no <arch>/{MANIFEST_FILE} in it",
            hint="name what `pakman build --output` was given, or run `pakman build` first",
        )
    return tuple(_read_one(directory, file) for file in found)


def _read_one(directory: Path, file: Path) -> Repository:
    try:
        with file.open("rb") as stream:
            return parse(stream.read(MOST_BYTES), directory, file)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror or error}", hint="build again into an empty directory"
        ) from error


def parse(body: bytes, directory: Path, file: Path) -> Repository:
    """Return what a packages.json says that lies, or could lie, at `file` in `directory`. Raises UsageError."""
    try:
        content = json.loads(body)
        return Repository(
            directory=directory,
            arch=_word(content["arch"]),
            owner=_word(content["owner"]),
            project=_word(content["project"]),
            slug=_word(content["slug"]),
            commit=None if content["commit"] is None else _word(content["commit"]),
            stack=_word(content["stack"], _STACK),
            key_name=_word(content["key_name"]),
            previous_key_name=None if (name := content.get("previous_key_name")) is None else _word(name),
            is_throwaway_key=content.get("throwaway_key") is True,
            builder=BuiltBy(_word(content["builder"]["name"]), _word(content["builder"]["pakman"])),
            packages=tuple(
                Package(
                    name=_word(package["name"]),
                    version=_word(package["version"]),
                    arch=_word(package["arch"]),
                    path=file.parent / _word(Path(package["file"]).name),
                    size=_size(package["size"]),
                    sha256=_word(package["sha256"]),
                )
                for package in content["packages"]
            ),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"{file} is not what `pakman build` writes ({reason})", hint="build again into an empty directory"
        ) from error


_NAME = re.compile(r"[A-Za-z0-9_.+~-]{1,255}")
_STACK = re.compile(r"[A-Za-z0-9_.+~/-]{1,255}")


def _word(value: object, name: re.Pattern[str] = _NAME) -> str:
    """Refuse what is no name of apk's or GitHub's: the file may be another job's, and this is for paths and shells."""
    if not isinstance(value, str) or not name.fullmatch(value) or value in (".", ".."):
        raise ValueError(f"{str(value)[:60]!r} is not a name")
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{str(value)[:60]!r} is not a size")
    return value


MOST_BYTES = 4 << 20
"""Of packages.json; a package takes 300 of them."""

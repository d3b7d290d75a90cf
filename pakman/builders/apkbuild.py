"""What an APKBUILD says, once a shell has read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pakman.errors import BuildError

VARIABLES = (
    *("pkgname", "pkgver", "pkgrel", "pkgdesc", "url", "arch", "license", "maintainer", "options"),
    *("depends", "depends_openrc", "makedepends", "provides", "replaces", "install_if"),
    *("replaces_priority", "provider_priority", "subpackages", "install", "triggers"),
    *("pkgusers", "pkggroups", "source", "sha512sums"),
)
"""What is asked for; APKBUILD(5) says what each means."""


@dataclass(frozen=True, slots=True)
class Apkbuild:
    """An APKBUILD's variables, and the names of the functions it defines."""

    variables: Mapping[str, str]
    functions: frozenset[str]

    def text(self, name: str) -> str:
        """Return a variable's value; runs of white space become one space, as in `echo $name`."""
        return " ".join(self.variables[name].split())

    def words(self, name: str) -> tuple[str, ...]:
        """Return a list variable's words."""
        return tuple(self.variables[name].split())

    def number(self, name: str) -> int | None:
        """Return a variable that is a number or empty. Raises BuildError for anything else."""
        text = self.variables[name]
        if text and not (text.isascii() and text.isdigit()):
            raise BuildError(f"APKBUILD: {name} has to be a number, and is {text!r}")
        return int(text) if text else None

    def has_option(self, option: str) -> bool:
        """Say whether `options` has a word."""
        return option in self.words("options")

    @property
    def name(self) -> str:
        """The main package's name."""
        return self.variables["pkgname"]

    @property
    def version(self) -> str:
        """Version with release, as apk has it: 1.2.3-r0."""
        return f"{self.variables['pkgver']}-r{self.variables['pkgrel']}"

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-512 in hex of each file."""
        words = self.words("sha512sums")
        return dict(zip(words[1::2], words[::2], strict=False))

    def arch_on(self, machine: str) -> str | None:
        """Return what the main package's arch is when built on this architecture; None: it is not built there."""
        words = self.words("arch")
        if f"!{machine}" in words or not {"all", "noarch", machine} & set(words):
            return None
        return "noarch" if "noarch" in words else machine


def parse(lines: Iterable[str]) -> Apkbuild:
    """Read what the task `variables` of embedded.sh wrote. Raises BuildError where it did not come to its end."""
    _, *fields = "\n".join(lines).split("\0")
    variables = dict.fromkeys(VARIABLES, "")
    functions = set()
    for field in fields[:-1]:
        name, _, value = field.partition("=")
        if name == "function":
            functions.add(value)
        else:
            variables[name] = value
    for name in ("pkgname", "pkgver", "pkgrel", "pkgdesc", "url", "license", "arch"):
        if not variables[name].strip():
            raise BuildError(f"APKBUILD: {name} is missing")
    return Apkbuild(variables, frozenset(functions))

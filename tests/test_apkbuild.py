"""What an APKBUILD says, once a shell has read it."""

from __future__ import annotations

import pytest

from pakman.builders.apkbuild import Apkbuild, parse
from pakman.errors import BuildError

MINIMAL = {"pkgname": "shop", "pkgver": "1.2.3", "pkgrel": "4", "pkgdesc": "d", "url": "u", "license": "MIT"}


def read(*functions: str, noise: str = "", **variables: str) -> Apkbuild:
    """Parse what embedded.sh would write."""
    fields = [f"{name}={value}" for name, value in {**MINIMAL, "arch": "all", **variables}.items()]
    fields += [f"function={name}" for name in functions]
    return parse((f"{noise}\0" + "".join(f"{field}\0" for field in fields)).split("\n"))


def test_reads_what_the_shell_wrote() -> None:
    recipe = read(
        "build",
        "package",
        noise="an APKBUILD\nmay print",
        depends="\n\ta\n\tb>=1 \n",
        pkgdesc='"quoted" = $x',
        sha512sums="\nabc  one.tar\ndef  two\n",
        license="MIT\n\tAND   ISC",
    )
    assert (recipe.name, recipe.version) == ("shop", "1.2.3-r4")
    assert recipe.words("depends") == ("a", "b>=1")
    assert recipe.variables["pkgdesc"] == '"quoted" = $x'
    assert recipe.checksums == {"one.tar": "abc", "two": "def"}
    assert recipe.text("license") == "MIT AND ISC"
    assert recipe.functions == {"build", "package"}
    assert recipe.words("provides") == ()


@pytest.mark.parametrize(
    ("arch", "on_x86", "on_arm"),
    [
        ("all", "x86_64", "aarch64"),
        ("noarch", "noarch", "noarch"),
        ("x86_64 aarch64", "x86_64", "aarch64"),
        ("x86_64", "x86_64", None),
        ("all !x86_64", None, "aarch64"),
        ("noarch !aarch64", "noarch", None),
    ],
)
def test_arch_as_abuild_reads_it(arch: str, on_x86: str | None, on_arm: str | None) -> None:
    recipe = read(arch=arch)
    assert (recipe.arch_on("x86_64"), recipe.arch_on("aarch64")) == (on_x86, on_arm)


def test_numbers() -> None:
    assert read().number("provider_priority") is None
    assert read(provider_priority="10").number("provider_priority") == 10
    with pytest.raises(BuildError, match="provider_priority has to be a number, and is 'x'"):
        read(provider_priority="x").number("provider_priority")


@pytest.mark.parametrize("name", [*MINIMAL, "arch"])
def test_what_every_package_needs_has_to_be_there(name: str) -> None:
    with pytest.raises(BuildError, match=f"APKBUILD: {name} is missing"):
        read(**{name: " "})

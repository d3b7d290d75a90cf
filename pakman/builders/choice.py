"""Which builder packs: the one that was asked for, or abuild wherever it can be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pakman.apk.package import Package
from pakman.apk.signature import Signer
from pakman.builders import abuild
from pakman.buildroots import AddPackages, BuildRoot
from pakman.errors import BuildError

Builder = Literal["auto", "abuild", "embedded"]
"""What a user may ask for."""


class Build(Protocol):
    """What makes packages of an aport."""

    def __call__(
        self,
        root: BuildRoot,
        aport: Path,
        output: Path,
        *,
        keys: Sequence[Signer],
        mtime: int,
        commit: str | None,
        threads: int,
        programs: Sequence[str] = (),
        add_packages: AddPackages | None = None,
        on_line: Callable[[str], None],
        on_notice: Callable[[str], None],
    ) -> tuple[Package, ...]:
        """Build in an entered root; embedded.build says what each argument is."""


def builder_name(build: Build) -> str:
    """Return what a user calls what packs."""
    return "abuild" if build is abuild.build else "embedded"


def builder_for(
    root: BuildRoot,
    wanted: Builder,
    add_packages: AddPackages,
    *,
    on_line: Callable[[str], None],
    on_notice: Callable[[str], None],
) -> Build:
    """Return what packs in an entered root; abuild is added where the root has none and its repositories do.

    Raises BuildError where abuild was asked for by name and cannot be had; a notice says it where it was not.
    """
    if wanted == "embedded":
        return _embedded()
    if root.has_abuild:
        return abuild.build
    said: list[str] = []
    try:
        add_packages(["abuild"], said.append)
    except BuildError as error:
        if wanted == "abuild":
            hint = f"{error.hint}; or pack without it: --builder embedded".removeprefix("; or ")
            raise BuildError(error.message, hint=hint) from error
        on_notice(f"packed by the embedded builder, because abuild cannot be had: {error.message}")
        return _embedded()
    for line in said:
        on_line(line)
    return abuild.build


def _embedded() -> Build:
    from pakman.builders import embedded

    return embedded.build

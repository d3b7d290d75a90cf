"""Which build root a build gets: the one that was asked for, or the best that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pakman.buildroots import BuildRoot
from pakman.buildroots.sandbox import Sandbox
from pakman.stack import Stack

Kind = Literal["auto", "sandbox"]
"""What a user may ask for."""


def build_root(
    kind: Kind,
    stack: Stack,
    *,
    rootfs: Path | None,
    cache: Path,
    env: Mapping[str, str],
    on_notice: Callable[[str], None],
    on_warning: Callable[[str], None],
) -> BuildRoot:
    """Return a root for `stack`, to be entered. `rootfs`, `cache` and `env` as in Sandbox."""
    del kind, stack, on_warning
    return Sandbox(rootfs, cache, env, on_notice=on_notice)

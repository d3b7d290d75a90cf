"""Jinja2 as this project uses it: a missing value is an error, and a value reaches shell only through a filter."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


_COMPILED = Path(__file__).with_name("templates") / "__pycache__"
"""Where `compile_all` puts templates as bytecode; each is held against the template's text before it is used."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """One file of a recipe: its name beside the APKBUILD, and where package() installs it, if it does."""

    name: str
    content: str
    mode: int = 0o644
    target: PurePosixPath | None = None
    """Absolute in the installed system, e.g. /etc/init.d/NAME; None: not installed by package()."""


def render(template: str, /, **values: object) -> str:
    """Render one of pakman/templates; raises jinja2.UndefinedError for a name that was not given.

    In a template `{{ value | sh }}` is the value as exactly one shell word, whatever is in it; `{{ value | ash }}` is
    the same for an APKBUILD.
    """
    return _environment().get_template(template).render(**values)


def compile_all() -> None:
    """Compile all templates beside them, as `compileall` does with modules: most of a recipe's time goes into that."""
    _COMPILED.mkdir(exist_ok=True)
    _environment.cache_clear()
    for template in _environment().list_templates(extensions=["j2"]):
        _environment().get_template(template)
    for file in _COMPILED.iterdir():
        file.chmod(0o644)


@cache
def _environment() -> jinja2.Environment:
    """Return what the templates are compiled in: once, however many files a recipe has."""
    # Imported here: validating a manifest renders nothing.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pakman"),
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(_COMPILED)) if _COMPILED.is_dir() else None,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (shell, not HTML: the filter `sh` is the escape here)
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    environment.filters["ash"] = lambda value: ash_word(str(value))
    return environment


def ash_word(value: str) -> str:
    """Return a value as one word of busybox ash, on one line and without a `#`.

    abuild also reads APKBUILDs without a shell: it greps for `# Maintainer`, and `abuild checksum` edits lines that
    begin with `sha512sums=`. No value may look like either.
    """
    return shlex.quote(value).replace("#", "'\"#\"'").replace("\n", "'$'\\n''")

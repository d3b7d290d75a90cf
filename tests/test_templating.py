"""Templates: what is compiled ahead renders the same, and is not compiled again."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from pakman import templating


def test_templates_are_compiled_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"name": "shop", "user": "shop", "libexec": "/usr/libexec/shop"}
    rendered = templating.render("service/bin-env-exec.j2", **values)
    monkeypatch.setattr(templating, "_COMPILED", tmp_path / "compiled")
    templating.compile_all()
    templating._environment.cache_clear()
    monkeypatch.setattr(jinja2.Environment, "compile", None)
    assert templating.render("service/bin-env-exec.j2", **values) == rendered
    # A job's container may run as another user than the one who made its image.
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "compiled").iterdir()} == {0o644}
    templating._environment.cache_clear()

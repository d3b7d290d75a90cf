"""A package's service, installed in an Alpine root as apk would: files, account, owners."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePath

from pakman.manifest import Manifest
from pakman.service import install_scripts, service_files
from tests.integration.conftest import AlpineRoot

SCRIPTS = Path("scripts")
"""Where in the root the install scripts are put."""


def small_copy(pristine: Path, path: Path) -> AlpineRoot:
    """A private copy of the root without the kernel and its modules, two thirds of it."""
    shutil.copytree(pristine, path, symlinks=True, ignore=shutil.ignore_patterns("boot", "modules"))
    return AlpineRoot(path)


def write(root: AlpineRoot, path: PurePath, content: str, mode: int) -> None:
    whole = root.path / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_text(content)
    whole.chmod(mode)


def install(root: AlpineRoot, manifest: Manifest, name: str, programs: dict[str, str] | None = None) -> None:
    """Install the service's files, the application's programs and the install scripts; run pre-install."""
    for file in service_files(manifest, name):
        assert file.target is not None
        write(root, file.target.relative_to("/"), file.content, file.mode)
    for program, content in (programs or {}).items():
        write(root, Path(f"var/lib/{name}/bin/{program}"), content, 0o755)
    for script in install_scripts(manifest, name):
        write(root, SCRIPTS / script.name, script.content, script.mode)
    root.sh(f"/scripts/{name}.pre-install 1.0; mkdir -p /var/lib/{name}; chown -R {name}:{name} /var/lib/{name}")

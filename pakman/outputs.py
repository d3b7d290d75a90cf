"""What a run leaves for later steps and for the reader of a job: step outputs and a summary."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pakman import github
from pakman.errors import PakmanError
from pakman.publish import Publication
from pakman.repository import Repository

_LEFT_OUT = "the manifest's architectures leave out this one"


@dataclass(slots=True)
class Results:
    """What a run has come to so far; each part is set once it is true, and what is not set is not written."""

    workspace: Path
    """Paths in outputs are relative to it, because a later step may see it under another path."""
    repository: Repository | None = None
    publication: Publication | None = None
    error: PakmanError | None = None

    def write(self, env: Mapping[str, str]) -> None:
        """Write to the files that GITHUB_OUTPUT and GITHUB_STEP_SUMMARY name, where they are set."""
        try:
            if env.get("GITHUB_OUTPUT"):
                github.write_outputs(Path(env["GITHUB_OUTPUT"]), self.outputs())
        finally:
            if env.get("GITHUB_STEP_SUMMARY"):
                github.append_summary(Path(env["GITHUB_STEP_SUMMARY"]), self.summary())

    def outputs(self) -> dict[str, str]:
        """Return the step's outputs by name."""
        found: dict[str, str] = {}
        if self.repository is not None:
            found |= self._built(self.repository)
        if self.publication is not None:
            found |= {
                "repository-path": self.publication.repository_path,
                "repository-url": self.publication.repository_url,
                "public-key-path": self.publication.public_key_path,
                "public-key-url": self.publication.public_key_url,
            }
        return found

    def summary(self) -> str:
        """Return the step's summary in Markdown."""
        built, published = self.repository, self.publication
        places, install = {}, []
        if built is not None and published is not None:
            places = {"Repository": published.repository_url, "Public key": published.public_key_url}
            install = how_to_install(built, published)
        return github.summary([built] if built is not None else [], places=places, install=install, error=self.error)

    def _built(self, repository: Repository) -> dict[str, str]:
        if not repository.packages:
            return {"arch": repository.arch, "stack": repository.stack, "skipped": _LEFT_OUT}
        packages = json.loads(repository.to_json())["packages"]
        first = repository.packages[0]
        return {
            "name": first.name,
            "version": first.version,
            "arch": repository.arch,
            "stack": repository.stack,
            "packages": json.dumps(packages, separators=(",", ":")),
            "package-dir": self._relative(repository.directory),
            "manifest-file": self._relative(repository.manifest_file),
            "checksums": "\n".join(f"{package['sha256']}  {package['file']}" for package in packages),
            "key-name": repository.key_name,
            "skipped": "",
        }

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.workspace)


def how_to_install(repository: Repository, publication: Publication) -> list[str]:
    """Return the lines that a user types on a machine."""
    name = repository.packages[0].name
    start = [f"rc-service {name} start"] if any(each.name == f"{name}-openrc" for each in repository.packages) else []
    return [
        f"wget -P /etc/apk/keys {publication.public_key_url}",
        f"echo {publication.repository_url} >> /etc/apk/repositories",
        f"apk add {name}",
        *start,
    ]

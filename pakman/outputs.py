"""What a run leaves for later steps and for the reader of a job: step outputs and a summary."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import github
from pakman.errors import PakmanError
from pakman.problems import Problem

if TYPE_CHECKING:  # they bring all of S3 along, which a build does not need
    from pakman.channels.adding import Joined
    from pakman.deploy import Deployed
    from pakman.publish import Publication
    from pakman.release import Release
    from pakman.repository import Repository
    from pakman.test_report import Report

_LEFT_OUT = "this machine's is not among the architectures to build for"


@dataclass(slots=True)
class Results:
    """What a run has come to so far; each part is set once it is true, and what is not set is not written."""

    workspace: Path
    """Paths in outputs are relative to it, because a later step may see it under another path."""
    headline: str = ""
    """For a summary without packages: what was done."""
    name: str = ""
    version: str = ""
    """The package's, with its release."""
    stack: str = ""
    """The three are known before anything is built."""
    repositories: Sequence[Repository] = ()
    """What was built, or is pushed: an entry per architecture."""
    is_fetched: bool = False
    """They were fetched from the bucket: there is no folder on this machine to name."""
    publication: Publication | None = None
    plan: Publication | None = None
    """What a dry run would have made of it."""
    joined: Joined | None = None
    """The channel that the packages have joined."""
    report: Report | None = None
    """What the package test came to."""
    report_file: Path | None = None
    """The same as a JUnit file."""
    untested: str = ""
    """Why there was no package test."""
    deployment: Deployed | None = None
    deployment_status: str = ""
    """created, exists, or none; empty where none was thought of."""
    archive_path: str = ""
    """The key of the archive in the bucket that is, or should have been, deployed."""
    undeployed: str = ""
    """Why what was pushed is not deployed yet."""
    release: Release | None = None
    skipped: str = ""
    """Why something that was asked for was not done."""
    warnings: list[str] = field(default_factory=list)
    problems: Sequence[Problem] = ()
    """The manifest's."""
    error: PakmanError | None = None
    seconds: float = 0

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
        found = {
            name: value
            for name, value in (("name", self.name), ("version", self.version), ("stack", self.stack))
            if value
        }
        if self.repositories:
            found |= self._built(self.repositories)
        if self.publication is not None:
            found |= {
                "repository-path": self.publication.repository_path,
                "repository-url": self.publication.repository_url,
                "public-key-path": self.publication.public_key_path,
                "public-key-url": self.publication.public_key_url,
            }
        if self.joined is not None:
            found |= {
                "channel-path": self.joined.path,
                "channel-url": self.joined.url,
                "install-script-url": self.joined.install_script_url,
            }
        if self.release is not None:
            found |= {
                "release-path": self.release.path,
                "release-url": self.release.url,
                "archive-path": self.release.archive_path,
            }
        return {**found, **self._tested(), **self._deployed(), "skipped": self.skipped or self._left_out()}

    def _tested(self) -> dict[str, str]:
        if self.report is None:
            return {"test-result": "skipped", "test-skipped": self.untested} if self.untested else {}
        reasons = dict.fromkeys(check.reason for check in self.report.checks if check.result == "skipped")
        file = {"test-report": self._relative(self.report_file)} if self.report_file is not None else {}
        return {"test-result": self.report.result, **file, "test-skipped": "\n".join(reasons)}

    def _deployed(self) -> dict[str, str]:
        found = {
            "deployment-status": self.deployment_status,
            "deployment-id": self.deployment.id if self.deployment is not None else "",
            "archive-path": self.archive_path,
        }
        return {name: value for name, value in found.items() if value}

    def summary(self) -> str:
        """Return the step's summary in Markdown."""
        facts: dict[str, str] = {}
        if self.repositories or self.stack:
            facts["Stack"] = self.repositories[0].stack if self.repositories else self.stack
        if self.publication is not None:
            facts |= {"Repository": self.publication.repository_url, "Public key": self.publication.public_key_url}
            if self.repositories and self.repositories[0].previous_key_name is not None:
                facts["Signs as well, until every machine has that key"] = self.repositories[0].previous_key_name
        if self.joined is not None:
            facts["Channel"] = self.joined.url
        if self.release is not None:
            facts |= {"Release": self.release.url, "Archive": self.release.archive_path}
        if self.deployment is not None:
            facts["Deployment"] = f"{self.deployment.id} ({self.deployment_status})"
        elif self.undeployed:
            facts["Deployment"] = f"none yet: {self.undeployed}"
        if self.archive_path:
            facts["Archive"] = self.archive_path
        facts["Duration"] = f"{self.seconds:.1f} s"
        return github.summary(
            self.repositories,
            headline=self.headline,
            skipped=self.skipped or self._left_out(),
            warnings=self.warnings,
            problems=self.problems,
            facts=facts,
            checks=self._checks(),
            stored=self._stored(),
            install=self._install(),
            error=self.error,
        )

    def _checks(self) -> list[tuple[str, str, float, str]]:
        """Return the result, the name, the seconds and the reason of each check of the package test."""
        if self.report is None:
            return [("skipped", "the package test", 0.0, self.untested)] if self.untested else []
        return [(check.result, check.name, check.seconds, check.reason) for check in self.report.checks]

    def _stored(self) -> list[tuple[str, str]]:
        """Return what became of each object, and its key."""
        if self.plan is not None:
            return [("would be stored", key) for key in self.plan.uploaded] + [
                ("is there already", key) for key in self.plan.skipped
            ]
        if self.publication is None:
            return []
        parts: list[Publication | Joined] = [self.publication, *([self.joined] if self.joined is not None else [])]
        return [("stored", key) for part in parts for key in part.uploaded] + [
            ("was there already", key) for part in parts for key in part.skipped
        ]

    def _install(self) -> list[str]:
        if self.publication is None or not self.repositories:
            return []
        return how_to_install(self.repositories[0], self.publication, self.joined)

    def _left_out(self) -> str:
        return _LEFT_OUT if self.repositories and not any(each.packages for each in self.repositories) else ""

    def _built(self, repositories: Sequence[Repository]) -> dict[str, str]:
        first = repositories[0]
        found = {"arch": " ".join(each.arch for each in repositories), "stack": first.stack}
        found |= {"commit": first.commit} if first.commit is not None else {}
        packages = [package for each in repositories for package in json.loads(each.to_json())["packages"]]
        if not packages:
            return found
        main = next(each.packages[0] for each in repositories if each.packages)
        folder = {
            "package-dir": self._relative(first.directory),
            "manifest-file": "\n".join(self._relative(each.manifest_file) for each in repositories),
        }
        return found | {
            "name": main.name,
            "version": main.version,
            "packages": json.dumps(packages, separators=(",", ":")),
            **({} if self.is_fetched else folder),
            "checksums": "\n".join(f"{package['sha256']}  {package['file']}" for package in packages),
            "key-name": first.key_name,
        }

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.workspace)


@contextmanager
def recorded(
    results: Results, env: Mapping[str, str], clock: Callable[[], float], on_unwritten: Callable[[str], None]
) -> Iterator[None]:
    """Write the results of what happens inside, however it ends; `clock` counts seconds."""
    began = clock()
    try:
        yield
    except BaseException as error:
        results.error = error if isinstance(error, PakmanError) else PakmanError(_ended_early(error))
        results.seconds = clock() - began
        try:
            results.write(env)
        except PakmanError as unwritten:
            on_unwritten(unwritten.message)  # what went wrong first is what has to be mended first
        raise
    results.seconds = clock() - began
    results.write(env)


def _ended_early(error: BaseException) -> str:
    return "a bug of pakman's ended the run" if isinstance(error, Exception) else "the run was stopped before its end"


def how_to_install(repository: Repository, publication: Publication, joined: Joined | None = None) -> list[str]:
    """Return the lines that a user types on a machine."""
    name = repository.packages[0].name
    start = [f"rc-service {name} start"] if any(each.name == f"{name}-openrc" for each in repository.packages) else []
    if joined is not None:
        return [f"wget -qO- {joined.install_script_url} | sh", *start]
    return [
        f"wget -P /etc/apk/keys {publication.public_key_url}",
        f"echo {publication.repository_url} >> /etc/apk/repositories",
        f"apk add {name}",
        *start,
    ]

"""The deployment, told in three functions: an archive of what a commit has in the bucket, and the service told of it.

Told twice, the service does it once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pakman import archive
from pakman.bucket import Bucket
from pakman.bucket.pool import OnProgress
from pakman.manifest import Manifest

if TYPE_CHECKING:
    from pakman.instellar import Instellar, Outcome


@dataclass(frozen=True, slots=True)
class Commit:
    """What is deployed: a commit of a project, at a ref (`refs/heads/main`)."""

    owner: str
    slug: str
    sha: str
    ref: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """What has become of it: the service's own number, whether it is new, and the archive that it runs."""

    id: str
    status: Outcome
    archive_path: str


def ship(
    commit: Commit,
    bucket: Bucket,
    architectures: Collection[str],
    *,
    on_progress: OnProgress = lambda *_: None,
) -> str:
    """Put the archive of a commit's packages into the bucket; return its key. Raises as pakman.archive does."""
    wanted = archive.entries(bucket, folder(commit, bucket), architectures)
    return archive.ship(bucket, wanted, on_progress=on_progress)


def folder(commit: Commit, bucket: Bucket) -> str:
    """Return the key of a commit's repository."""
    return bucket.location.key("deployments", commit.owner, commit.slug, commit.sha)


def announce(commit: Commit, service: Instellar, archive_path: str, stack: str | None) -> Deployed:
    """Tell the service to run an archive; `stack` is the image that it launches, where one is named.

    Raises DeploymentError.
    """
    deployment, status = service.create_deployment(
        ref=commit.ref, sha=commit.sha, archive_path=archive_path, stack=stack
    )
    return Deployed(deployment.id, status, deployment.archive_path)


def configure(deployed: Deployed, service: Instellar, manifest: Manifest) -> None:
    """Tell the service how to run a deployment, where the manifest has kits.

    Raises DeploymentError, and RefusedError for what it refuses of the manifest.
    """
    if manifest.kits:
        service.create_configuration(deployed.id, payload(manifest))


def payload(manifest: Manifest) -> dict[str, Any]:
    """Return a configuration: the kits, and of sizes, plans and page what the manifest has."""
    everything = {
        "kits": list(manifest.kits),
        "sizes": list(manifest.sizes),
        "plans": list(manifest.plans),
        "page": dict(manifest.page),
    }
    return {key: value for key, value in everything.items() if value}

"""`pakman deploy`, and the deployment that `pakman run` ends with where it is given the tokens."""

from __future__ import annotations

import argparse
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import commands, reports
from pakman.errors import UsageError

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.deploy import Commit
    from pakman.instellar import Deployment, Instellar, RefusedError, Storage
    from pakman.manifest import Reading
    from pakman.outputs import Results
    from pakman.progress import Progress

Env = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment that the command line and the environment ask for; the service has not been asked yet."""

    service: Instellar
    commit: Commit


@dataclass(frozen=True, slots=True)
class Begun:
    """A deployment of which all is known that can be known before a build."""

    service: Instellar
    commit: Commit
    known: Deployment | None
    """What the service has of the commit already."""
    storage: Storage | None
    """Where its packages go, where no bucket was given and there is something to ship."""


def wanted(args: argparse.Namespace, env: Env, progress: Progress) -> Wanted | None:
    """Return what to deploy, and where; None where no tokens were given, or where GitHub would have given none.

    Nothing is asked over the network: raises UsageError for tokens that are none, a ref that nobody named.
    """
    from pakman import event

    package, auth = env.get("INSTELLAR_PACKAGE_TOKEN", ""), env.get("INSTELLAR_AUTH_TOKEN", "")
    # A stranger's code is not deployed, whatever the job has been told.
    if not (package or auth) or event.without_secrets(env):
        return None
    # What it takes to ask is not imported where nobody is asked.
    from pakman import detection, instellar
    from pakman.deploy import Commit
    from pakman.project import slug

    tokens = instellar.tokens(package, auth)
    if tokens is None:
        return None
    said = None if args.instellar_endpoint else env.get("INSTELLAR_ENDPOINT")
    service = instellar.Instellar(
        args.instellar_endpoint or said or instellar.ENDPOINT,
        tokens,
        source="INSTELLAR_ENDPOINT" if said else "--instellar-endpoint",
        clock=time.monotonic,
        on_secret=lambda secret: reports.mask(secret, env),
        on_wait=progress.notice,
    )
    directory = args.file.absolute().parent
    owner, name = detection.owner_and_name(directory, env, project=args.project)
    return Wanted(service, Commit(owner, slug(name), sha(args, env, directory), _ref(args, env)))


def begin(args: argparse.Namespace, deployment: Wanted) -> Begun:
    """Ask the service about the commit; what it would refuse behind a long build, it refuses here."""
    service = deployment.service
    known = service.deployment(deployment.commit.sha)
    storage = service.storage() if known is None and args.bucket is None else None
    return Begun(service, deployment.commit, known, storage)


def stored(args: argparse.Namespace, env: Env, begun: Begun) -> Env:
    """Let the bucket that the service named stand in `args` as if it had been given; return the environment for it."""
    if begun.storage is None:
        return env
    args.bucket, args.region = f"s3://{begun.storage.bucket}", begun.storage.region
    args.endpoint_url = begun.storage.endpoint_url
    return {
        **{name: value for name, value in env.items() if name != "AWS_SESSION_TOKEN"},
        "AWS_ACCESS_KEY_ID": begun.storage.access_key_id,
        "AWS_SECRET_ACCESS_KEY": begun.storage.secret_access_key,
    }


def deploy(args: argparse.Namespace, env: Env) -> int:
    """Deploy what lies in the bucket, or the archive that the service has of the commit."""
    from pakman import event, shipping, stack_commands

    progress, results = commands.progress_for(args, env), commands.results_for(args)
    results.deployment_status = "none"
    if why := event.without_secrets(env):
        results.skipped = f"nothing was deployed: {why}"
        progress.notice(results.skipped)
        return 0
    reading = commands.valid(args, env, progress)
    stack_commands.name(args, commands.manifest_of(args, reading))
    deployment = wanted(args, env, progress)
    if deployment is None:
        raise UsageError(
            "deploying needs the tokens of the package and of its publisher",
            hint="set INSTELLAR_PACKAGE_TOKEN and INSTELLAR_AUTH_TOKEN; in a workflow: instellar-package-token and "
            "instellar-auth-token, of secrets that it may see",
        )
    bucket = None
    if args.bucket is not None:
        bucket = shipping.bucket_for(args, env, progress)
        shipping.refuse_unusable(bucket)
    begun = begin(args, deployment)
    if begun.known is not None:
        again(args, env, begun, reading, results, progress)
        return 0
    if bucket is None:
        env = stored(args, env, begun)
        bucket = shipping.bucket_for(args, env, progress)
    finish(args, env, begun, bucket, reading, results, progress)
    return 0


def again(
    args: argparse.Namespace, env: Env, begun: Begun, reading: Reading, results: Results, progress: Progress
) -> None:
    """Make a new deployment of a commit that the service knows, on the archive that it has; nothing is shipped."""
    path = begun.known.archive_path if begun.known is not None else ""
    progress.notice(f"{begun.commit.sha} is deployed already: nothing is shipped, {path} is deployed again")
    _announce(args, env, begun, path, reading, results, progress)


def finish(
    args: argparse.Namespace,
    env: Env,
    begun: Begun,
    bucket: Bucket,
    reading: Reading,
    results: Results,
    progress: Progress,
) -> None:
    """Ship the archive and tell the service; raises archive.MissingError where an architecture is not there yet."""
    from contextlib import closing

    from pakman import archive
    from pakman import deploy as story

    architectures = commands.manifest_of(args, reading).architectures or ()
    with closing(bucket):
        if args.dry_run:
            for entry in archive.entries(bucket, story.folder(begun.commit, bucket), architectures):
                progress.must_say(f"would be in the archive: {entry.name}")
            path = ""
        else:
            with progress.phase(f"Archive in {bucket.location}"):
                path = story.ship(begun.commit, bucket, architectures, on_progress=progress.bar)
    _announce(args, env, begun, path, reading, results, progress)


def _announce(
    args: argparse.Namespace,
    env: Env,
    begun: Begun,
    path: str,
    reading: Reading,
    results: Results,
    progress: Progress,
) -> None:
    from pakman import deploy as story
    from pakman import instellar, stack_commands

    if args.dry_run:
        results.skipped = "nothing was deployed: it is a dry run"
        progress.notice(results.skipped)
        return
    results.archive_path = path
    manifest = commands.manifest_of(args, reading)
    stack = stack_commands.name(args, manifest)
    with progress.phase(f"Deploy {begun.commit.ref} at {begun.service.endpoint}"):
        try:
            deployed = story.announce(begun.commit, begun.service, path, stack)
            # It is there, whatever becomes of its configuration.
            results.deployment, results.deployment_status = deployed, deployed.status
            results.archive_path = deployed.archive_path
            story.configure(deployed, begun.service, manifest)
        except instellar.RefusedError as error:
            _point_out(args, env, error, reading, results, progress)
            raise
        results.headline = f"{begun.commit.ref} is deployed"
        progress.say(f"deployment {deployed.id}: {deployed.status}; its archive is {deployed.archive_path}")


def _point_out(
    args: argparse.Namespace, env: Env, error: RefusedError, reading: Reading, results: Results, progress: Progress
) -> None:
    """Print each value that the service refuses at its line of the manifest."""
    from pakman import refusals

    found = refusals.problems(error.refusals, reading.root, args.file)
    if not found:
        return
    results.problems = commands.in_workspace(found, args.file, env)
    commands.show(found, reading.source, args.file, env, progress)


def _ref(args: argparse.Namespace, env: Env) -> str:
    from pakman import detection

    if args.ref is None:
        return detection.ref(args.file.absolute().parent, env)
    # git-check-ref-format(1), as far as it keeps a ref apart from what is none.
    if not re.fullmatch(r"refs/[^\s/~^:?*\[\\]+(?:/[^\s/~^:?*\[\\]+)+", args.ref):
        raise UsageError(
            f"--ref is {args.ref[:80]!r}, but it should be the full name of a branch or a tag",
            hint="write it as refs/heads/main or refs/tags/v1.2.3",
        )
    return str(args.ref)


def sha(args: argparse.Namespace, env: Env, directory: Path) -> str:
    """Return the commit that --sha names, else the one that is checked out in a directory; raise UsageError."""
    from pakman import detection, publish

    found = detection.commit(directory, env)
    if args.sha is None:
        if found is None and args.command != "run":
            raise UsageError(
                f"nothing says which commit to {args.command}: {directory} has none checked out",
                hint="give --sha SHA, or run it where the project is checked out; a job on GitHub has GITHUB_SHA",
            )
        return publish.refuse_without_commit(found, str(directory))
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", args.sha):
        # Not rev-parse, which says of an annotated tag what is no commit's.
        name = shlex.quote(args.sha[:80] or "HEAD")
        raise UsageError(
            f"--sha is {args.sha[:80]!r}, but it should be a full commit SHA",
            hint=f"`git rev-list -n 1 {name}` says it",
        )
    if args.command == "run" and args.sha != found:
        raise UsageError(
            f"--sha is {args.sha}, but what is built is {found or 'no commit'}",
            hint="check that commit out (in a workflow: actions/checkout's input ref), or leave --sha away",
        )
    return str(args.sha)

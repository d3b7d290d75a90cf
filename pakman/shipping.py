"""The commands that ship: `pakman push`, and `pakman run`, which does all of it in order."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pakman import commands
from pakman.errors import SigningError

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.channels.adding import Joined
    from pakman.deploy_commands import Begun
    from pakman.manifest import Reading
    from pakman.outputs import Results
    from pakman.progress import Progress
    from pakman.publish import Publication
    from pakman.repository import Repository

Env = Mapping[str, str]

REPORT_FILE = "test-report.xml"


def push(args: argparse.Namespace, env: Env) -> int:
    """Ship what an earlier build left."""
    from pakman import channel_commands, event, outputs, repository

    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    results = commands.results_for(args)
    results.repositories = repositories = repository.read(args.directory)
    why = event.without_secrets(env)
    if why and not _has_credentials(env):
        _skip_push(results, why, progress)
        return 0
    if any(each.is_throwaway_key for each in repositories):
        raise _no_key_to_keep()
    channel_commands.leave_out(args, env, progress, results)
    channel_commands.refuse_before_building(args, None)
    _say_what_is_checked_out(args, env, repositories[0].commit, progress)
    publication, joined = _pushed(args, env, repositories, bucket_for(args, env, progress), progress, results)
    if args.format == "json":
        import json

        channel = {} if joined is None else {"channel": joined.as_json()}
        print(json.dumps(publication.as_json() | channel, indent=2))
    elif not args.dry_run:
        print("\n".join(outputs.how_to_install(repositories[0], publication, joined)))
    return 0


def _say_what_is_checked_out(args: argparse.Namespace, env: Env, built: str | None, progress: Progress) -> None:
    """Say where an earlier commit's packages are pushed: somebody may have forgotten to build."""
    from pathlib import Path

    from pakman import detection

    head = detection.checked_out_instead(Path.cwd(), env, built)
    if head is not None:
        progress.notice(
            f"{args.directory} was built from commit {built}, and {head} is checked out: `pakman build` builds that one"
        )


def run(args: argparse.Namespace, env: Env) -> int:
    """Tell the whole story."""
    from pakman import channel_commands, deploy_commands, event, key_commands

    commands.become_root(args, env)
    progress = commands.progress_for(args, env)
    results = commands.results_for(args)
    results.deployment_status = "none"
    # First all that needs no network: the manifest, the command line, the key.
    reading = commands.valid(args, env, progress)
    channel_commands.leave_out(args, env, progress, results)
    deployment = deploy_commands.wanted(args, env, progress)
    bucket = None
    if args.bucket is not None:
        why = event.without_secrets(env)
        if why and not (key_commands.is_given(args, env) and _has_credentials(env)):
            # Nobody's code is signed by a key that machines trust, though the job may have that one.
            _skip_push(results, why, progress)
            env = key_commands.without(args, env)
        else:
            bucket = bucket_for(args, env, progress)
    if bucket is not None or deployment is not None:
        commands.refuse_before_asking(args, env, reading)
        if not key_commands.is_given(args, env):
            raise _no_key_to_keep()
    if deployment is None or args.bucket is not None:
        channel_commands.refuse_before_building(args, bucket)
    if bucket is not None:
        refuse_unusable(bucket)
        channel_commands.refuse_another_project_s(args, env, bucket)
    begun = deploy_commands.begin(args, deployment) if deployment is not None else None
    if begun is not None and begun.known is not None:
        results.skipped = f"nothing was built or pushed: {begun.commit.sha} is deployed already"
        deploy_commands.again(args, env, begun, reading, results, progress)
        return 0
    if begun is not None and begun.storage is not None:
        env = deploy_commands.stored(args, env, begun)
        bucket = bucket_for(args, env, progress)
        refuse_unusable(bucket)
        channel_commands.refuse_before_building(args, bucket)
        channel_commands.refuse_another_project_s(args, env, bucket)
    _ship(args, env, progress, results, reading, bucket, begun)
    return 0


def _ship(
    args: argparse.Namespace,
    env: Env,
    progress: Progress,
    results: Results,
    reading: Reading,
    bucket: Bucket | None,
    begun: Begun | None,
) -> None:
    """Build, test, push and deploy, as far as there is a bucket and a service to do it with."""
    from pakman import outputs

    repository = commands.built(args, env, progress, reading, bucket=bucket)
    results.repositories = (repository,)
    if not repository.packages:
        return  # the build has said why
    # Beside packages.json, which says what is pushed; an earlier build's report says nothing of this one.
    args.junit = repository.manifest_file.with_name(REPORT_FILE)
    args.junit.unlink(missing_ok=True)
    if args.test:
        _must_pass(args, env, progress, results, repository, reading, bucket)
    else:
        results.untested = "--no-test, or the input test, leaves it out"
    if bucket is not None:
        publication, joined = _pushed(args, env, (repository,), bucket, progress, results)
        if not args.dry_run:
            print("\n".join(outputs.how_to_install(repository, publication, joined)))
        if begun is not None:
            _deploy(args, env, begun, bucket, reading, results, progress)
    elif args.bucket is None:
        progress.notice(f"nothing was pushed: no --bucket was given; the packages are in {args.output}")


def _must_pass(
    args: argparse.Namespace,
    env: Env,
    progress: Progress,
    results: Results,
    repository: Repository,
    reading: Reading,
    bucket: Bucket | None,
) -> None:
    """Raise PackageTestError where the package fails its test; what cannot be tested has been said, and may ship."""
    from functools import partial

    from pakman import previous, test, test_commands

    earlier = (
        partial(previous.rebuilt, repository)
        if bucket is None
        else partial(previous.in_bucket, repository, bucket, on_warning=progress.warning)
    )
    results.report = test_commands.tested(args, env, progress, repository, reading, earlier)
    results.report_file = args.junit
    test.must_have_passed(results.report)


def _deploy(
    args: argparse.Namespace,
    env: Env,
    begun: Begun,
    bucket: Bucket,
    reading: Reading,
    results: Results,
    progress: Progress,
) -> None:
    """Deploy what was pushed, once all architectures have arrived: of several jobs the last one does."""
    from pakman import archive, deploy_commands

    if args.dry_run:
        progress.notice("nothing was deployed: it is a dry run")
        return
    try:
        deploy_commands.finish(args, env, begun, bucket, reading, results, progress)
    except archive.MissingError as error:
        results.undeployed = error.message
        progress.notice(f"nothing was deployed: {error.message}")


def refuse_unusable(bucket: Bucket) -> None:
    """Raise BucketError where the bucket, or what it takes to ask it, is not to be had: without credentials at once."""
    from contextlib import closing

    with closing(bucket):
        # Asked anything at all: a wrong bucket, or none of its credentials, is known then.
        bucket.list(bucket.location.key("keys", "any"))


def bucket_for(args: argparse.Namespace, env: Env, progress: Progress) -> Bucket:
    """Return the bucket that the flags name; nothing is asked of it yet."""
    from pakman import bucket

    return bucket.open_bucket(
        args.bucket,
        prefix=args.prefix,
        endpoint_url=args.endpoint_url,
        region=args.region,
        addressing=args.addressing_style,
        public_url=args.public_url,
        concurrency=args.concurrency,
        on_wait=progress.notice,
        env=env,
    )


def _pushed(
    args: argparse.Namespace,
    env: Env,
    repositories: tuple[Repository, ...],
    bucket: Bucket,
    progress: Progress,
    results: Results,
) -> tuple[Publication, Joined | None]:
    """Push to the repository of the commit and, where a channel is named, into that."""
    from pakman import channel_commands

    channel = channel_commands.channel_for(args, env, bucket, repositories)
    if channel is not None:
        channel_commands.refuse(channel, repositories, dry_run=args.dry_run)
    publication = _published(repositories, bucket, progress, results, dry_run=args.dry_run)
    if channel is None:
        return publication, None
    return publication, channel_commands.join(channel, repositories, progress, results, dry_run=args.dry_run)


def _published(
    repositories: tuple[Repository, ...], bucket: Bucket, progress: Progress, results: Results, *, dry_run: bool
) -> Publication:
    from pakman import publish

    with progress.phase(f"Push to {bucket.location}{' (dry run)' if dry_run else ''}"):
        publication = publish.publish(
            repositories, bucket, on_progress=progress.bar, on_notice=progress.notice, dry_run=dry_run
        )
    if not dry_run:
        results.publication = publication
        return publication
    results.plan, results.skipped = publication, "nothing was pushed: it is a dry run"
    progress.notice(results.skipped)
    for key in publication.uploaded:
        progress.must_say(f"would be stored: {key}")
    for key in publication.skipped:
        progress.must_say(f"is there already: {key}")
    return publication


def _skip_push(results: Results, why: str, progress: Progress) -> None:
    results.skipped = f"nothing was pushed: {why}"
    progress.notice(results.skipped)


def _has_credentials(env: Env) -> bool:
    return bool(env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"))


def _no_key_to_keep() -> SigningError:
    # The bucket never overwrites a key: a throwaway one would keep its place from the key that comes after it.
    return SigningError(
        "pushing needs a signing key of your own: what a throwaway key signs, no machine can go on trusting",
        hint="run `pakman keygen` once, then build with --signing-key FILE or with PAKMAN_SIGNING_KEY set; "
        "in a workflow: signing-key: ${{ secrets.PAKMAN_SIGNING_KEY }}",
    )
